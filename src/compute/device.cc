#include "compute/device.h"

#include <string>
#include <utility>

#include "compute/fp_environment.h"
#include "compute/reference/reference.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/features.h"
#include "compute/cpu/gemm.h"
#endif

namespace driftwood::compute {

namespace {

// The bytes of a [rows, cols] matrix at `offset`.
struct Extent {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool overlaps(const Extent& other) const { return begin < other.end && other.begin < end; }
};

Error bad(const std::string& what, const std::string& want, const std::string& got) {
    return error(ErrorCode::kInvalidArgument, "[compute.gemm] " + what + ": want " + want + ", got " + got);
}

uint64_t bytes_of(ElementType type) { return type == ElementType::kF32 ? sizeof(float) : sizeof(uint16_t); }

struct Matrix {
    const char* name;
    uint64_t offset;
    ElementType type;
    uint32_t rows, cols, stride;  // as stored
};

Result<Extent> check_matrix(const Matrix& x, uint64_t size_bytes) {
    const std::string name = x.name;
    if (x.type > ElementType::kBf16) {
        return bad(name + " type", "f32, f16 or bf16", std::to_string(static_cast<int>(x.type)));
    }
    const uint64_t element = bytes_of(x.type);
    if (x.offset % element != 0) {
        return bad(name + " offset", "a multiple of " + std::to_string(element), std::to_string(x.offset));
    }
    if (x.stride < x.cols) return bad("ld" + name, "at least " + std::to_string(x.cols), std::to_string(x.stride));
    if (x.offset > size_bytes) {
        return bad(name + " offset", "at most " + std::to_string(size_bytes), std::to_string(x.offset));
    }
    if (x.rows == 0 || x.cols == 0) return Extent{x.offset, x.offset};
    // Below 2^64 in elements; compared in elements so that the bytes cannot overflow.
    const uint64_t elements = uint64_t{x.rows - 1} * x.stride + x.cols;
    const uint64_t room = (size_bytes - x.offset) / element;
    if (elements > room) {
        return bad(name, std::to_string(elements) + " numbers from byte " + std::to_string(x.offset),
                   "a Region with room for " + std::to_string(room));
    }
    return Extent{x.offset, x.offset + elements * element};
}

GemmArgs in_region(uint8_t* base, const Gemm& g) {
    return {.a = base + g.a_offset,
            .b = base + g.b_offset,
            .c = base + g.c_offset,
            .m = g.m,
            .n = g.n,
            .k = g.k,
            .lda = g.lda,
            .ldb = g.ldb,
            .ldc = g.ldc,
            .a_type = g.a_type,
            .b_type = g.b_type,
            .c_type = g.c_type,
            .a_transpose = g.a_transpose,
            .b_transpose = g.b_transpose,
            .accumulate = g.accumulate};
}

// What both devices share: they work on the Region's own bytes, on this processor.
class HostDevice : public Device {
  public:
    const uint8_t* address(const memory::Region& region) const final { return region.base(); }

    Result<void> gemm(memory::Region& region, const Gemm& g) final {
        DW_TRY(check_gemm(g, region.size()));
        const FpEnvironment environment;
        run(in_region(region.base(), g));
        return {};
    }

  private:
    virtual void run(const GemmArgs& args) = 0;
};

class ReferenceDevice final : public HostDevice {
  public:
    std::string_view name() const override { return "reference"; }

  private:
    void run(const GemmArgs& args) override { reference::gemm(args); }
};

#if defined(DRIFTWOOD_X86)
class CpuDevice final : public HostDevice {
  public:
    CpuDevice(const GemmKernels& kernels, uint32_t threads) : gemm_(kernels, threads) {}
    std::string_view name() const override { return "cpu"; }

  private:
    void run(const GemmArgs& args) override { gemm_.run(args); }

    CpuGemm gemm_;
};
#endif

std::unique_ptr<Device> make_cpu_device([[maybe_unused]] uint32_t threads) {
#if defined(DRIFTWOOD_X86)
    if (threads == 0) threads = available_cores();
    if (cpu_has_avx512()) return std::make_unique<CpuDevice>(avx512::gemm_kernels(), threads);
    if (cpu_has_avx2()) return std::make_unique<CpuDevice>(avx2::gemm_kernels(), threads);
#endif
    return std::make_unique<ReferenceDevice>();
}

}  // namespace

Result<void> check_gemm(const Gemm& g, uint64_t size_bytes) {
    const auto stored = [](const char* name, uint64_t offset, ElementType type, Transpose transpose, uint32_t rows,
                           uint32_t cols, uint32_t stride) {
        if (transpose == Transpose::kYes) std::swap(rows, cols);
        return Matrix{name, offset, type, rows, cols, stride};
    };
    if (g.a_transpose > Transpose::kYes || g.b_transpose > Transpose::kYes) return bad("transpose", "0 or 1", "more");
    DW_ASSIGN(const Extent a,
              check_matrix(stored("a", g.a_offset, g.a_type, g.a_transpose, g.m, g.k, g.lda), size_bytes));
    DW_ASSIGN(const Extent b,
              check_matrix(stored("b", g.b_offset, g.b_type, g.b_transpose, g.k, g.n, g.ldb), size_bytes));
    DW_ASSIGN(const Extent c,
              check_matrix(stored("c", g.c_offset, g.c_type, Transpose::kNo, g.m, g.n, g.ldc), size_bytes));
    if (c.overlaps(a)) return bad("c", "bytes of its own", "an overlap with a");
    if (c.overlaps(b)) return bad("c", "bytes of its own", "an overlap with b");
    return {};
}

Result<std::unique_ptr<Device>> make_device(std::string_view name, uint32_t threads) {
    if (name == "reference") return std::unique_ptr<Device>(std::make_unique<ReferenceDevice>());
    if (name == "cpu") return make_cpu_device(threads);
    return error(ErrorCode::kNotFound, "[compute.device] " + std::string(name) + ": want reference or cpu");
}

}  // namespace driftwood::compute
