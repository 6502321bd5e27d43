#include "compute/device.h"

#include <string>

#include "compute/fp_environment.h"
#include "compute/reference/reference.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/features.h"
#endif

namespace driftwood::compute {

namespace {

using GemmFunction = decltype(&reference::gemm_f32);

// The bytes of a [rows, cols] matrix at `offset`.
struct Extent {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool overlaps(const Extent& other) const { return begin < other.end && other.begin < end; }
};

Error bad(const std::string& what, const std::string& want, const std::string& got) {
    return error(ErrorCode::kInvalidArgument, "[compute.gemm] " + what + ": want " + want + ", got " + got);
}

Result<Extent> check_matrix(const char* name, uint64_t offset, uint32_t rows, uint32_t cols, uint32_t stride,
                            uint64_t size_bytes) {
    if (offset % sizeof(float) != 0) {
        return bad(std::string(name) + " offset", "a multiple of 4", std::to_string(offset));
    }
    if (stride < cols) {
        return bad(std::string("ld") + name, "at least " + std::to_string(cols), std::to_string(stride));
    }
    if (offset > size_bytes) {
        return bad(std::string(name) + " offset", "at most " + std::to_string(size_bytes), std::to_string(offset));
    }
    if (rows == 0 || cols == 0) return Extent{offset, offset};
    // Below 2^64 in elements; compared in elements so that the bytes cannot overflow.
    const uint64_t elements = uint64_t{rows - 1} * stride + cols;
    const uint64_t room = (size_bytes - offset) / sizeof(float);
    if (elements > room) {
        return bad(name, std::to_string(elements) + " floats from byte " + std::to_string(offset),
                   "a Region with room for " + std::to_string(room));
    }
    return Extent{offset, offset + elements * sizeof(float)};
}

class CpuDevice final : public Device {
  public:
    CpuDevice(std::string_view name, GemmFunction gemm) : name_(name), gemm_(gemm) {}

    std::string_view name() const override { return name_; }
    const uint8_t* address(const memory::Region& region) const override { return region.base(); }

    Result<void> gemm(memory::Region& region, const GemmF32& g) override {
        DW_TRY(check_gemm(g, region.size()));
        const FpEnvironment environment;
        const auto floats = [&](uint64_t offset) { return reinterpret_cast<float*>(region.base() + offset); };
        gemm_(floats(g.a_offset), floats(g.b_offset), floats(g.c_offset), g.m, g.n, g.k, g.lda, g.ldb, g.ldc,
              g.accumulate);
        return {};
    }

  private:
    std::string_view name_;
    GemmFunction gemm_;
};

GemmFunction fastest_gemm() {
#if defined(DRIFTWOOD_X86)
    if (cpu_has_avx512()) return avx512::gemm_f32;
    if (cpu_has_avx2()) return avx2::gemm_f32;
#endif
    return reference::gemm_f32;
}

}  // namespace

Result<void> check_gemm(const GemmF32& g, uint64_t size_bytes) {
    DW_ASSIGN(const Extent a, check_matrix("a", g.a_offset, g.m, g.k, g.lda, size_bytes));
    DW_ASSIGN(const Extent b, check_matrix("b", g.b_offset, g.k, g.n, g.ldb, size_bytes));
    DW_ASSIGN(const Extent c, check_matrix("c", g.c_offset, g.m, g.n, g.ldc, size_bytes));
    if (c.overlaps(a)) return bad("c", "bytes of its own", "an overlap with a");
    if (c.overlaps(b)) return bad("c", "bytes of its own", "an overlap with b");
    return {};
}

Result<std::unique_ptr<Device>> make_device(std::string_view name) {
    if (name == "reference") {
        return std::unique_ptr<Device>(std::make_unique<CpuDevice>("reference", reference::gemm_f32));
    }
    if (name == "cpu") return std::unique_ptr<Device>(std::make_unique<CpuDevice>("cpu", fastest_gemm()));
    return error(ErrorCode::kNotFound, "[compute.device] " + std::string(name) + ": want reference or cpu");
}

}  // namespace driftwood::compute
