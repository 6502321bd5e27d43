#include "compute/device.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "base/fp_environment.h"
#include "compute/cpu/gemm.h"
#include "compute/reference/reference.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/features.h"
#elif defined(DRIFTWOOD_ARM)
#include "compute/cpu/neon/neon.h"
#endif

#if defined(DRIFTWOOD_CUDA)
#include "compute/cuda/cuda.h"
#endif

namespace driftwood::compute {

namespace {

// The bytes of a [rows, cols] matrix at `offset`.
struct Extent {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool overlaps(const Extent& other) const { return begin < other.end && other.begin < end; }
};

Error bad(const char* operation, const std::string& what, const std::string& want, const std::string& got) {
    return error(ErrorCode::kInvalidArgument,
                 std::string("[compute.") + operation + "] " + what + ": want " + want + ", got " + got);
}

// Right in itself, but not inside these bytes.
Error outside(const char* operation, const std::string& what, const std::string& want, const std::string& got) {
    return error(ErrorCode::kLimit, bad(operation, what, want, got).message);
}

uint64_t bytes_of(ElementType type) { return type == ElementType::kF32 ? sizeof(float) : sizeof(uint16_t); }

struct Matrix {
    const char* operation;
    const char* name;
    uint64_t offset;
    ElementType type;
    uint32_t rows, cols, stride;  // as stored
};

Result<Extent> check_matrix(const Matrix& x, uint64_t size_bytes) {
    const std::string name = x.name;
    if (x.type > ElementType::kBf16) {
        return bad(x.operation, name + " type", "f32, f16 or bf16", std::to_string(static_cast<int>(x.type)));
    }
    const uint64_t element = bytes_of(x.type);
    if (x.offset % element != 0) {
        return bad(x.operation, name + " offset", "a multiple of " + std::to_string(element), std::to_string(x.offset));
    }
    if (x.stride < x.cols)
        return bad(x.operation, "ld" + name, "at least " + std::to_string(x.cols), std::to_string(x.stride));
    if (x.offset > size_bytes) {
        return outside(x.operation, name + " offset", "at most " + std::to_string(size_bytes),
                       std::to_string(x.offset));
    }
    if (x.rows == 0 || x.cols == 0) return Extent{x.offset, x.offset};
    // Below 2^64 in elements; compared in elements so that the bytes cannot overflow.
    const uint64_t elements = uint64_t{x.rows - 1} * x.stride + x.cols;
    const uint64_t room = (size_bytes - x.offset) / element;
    if (elements > room) {
        return outside(x.operation, name, std::to_string(elements) + " numbers from byte " + std::to_string(x.offset),
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

// Work on so many numbers takes about as long as waking a helper that sleeps.
constexpr uint32_t kPieceValues = uint32_t{1} << 15;
constexpr uint64_t kPiecesWorthThreads = 4;

bool is_elementwise(RowKind kind) { return kind != RowKind::kSoftmax && kind != RowKind::kRmsNorm; }

// What both devices share: they work on the Region's own bytes, on this processor.
class HostDevice : public Device {
  public:
    const uint8_t* address(const memory::Region& region) const final { return region.base(); }

    Result<void> gemm(memory::Region& region, const Gemm& g, Path) final {
        DW_TRY(check_gemm(g, region.size()));
        const memory::Region::Hold hold = region.hold();
        const FpEnvironment environment;
        run(in_region(region.base(), g));
        return {};
    }

    Result<void> rows(memory::Region& region, const Rows& r, Path) final {
        DW_TRY(check_rows(r, region.size()));
        const memory::Region::Hold hold = region.hold();
        const FpEnvironment environment;
        if (r.rows == 0 || r.cols == 0) return {};
        // Pieces of about kPieceValues: whole rows, or a part of one where its values do not depend on each other.
        const uint32_t cols = is_elementwise(r.kind) ? std::min(r.cols, kPieceValues) : r.cols;
        const uint32_t rows = std::max(1U, kPieceValues / r.cols);
        const uint64_t across = (r.cols - 1) / cols + 1;
        const RowFunction function = row_kernels_.of_kind[static_cast<uint32_t>(r.kind)];
        spread(across * ((r.rows - 1) / rows + 1), [&](uint64_t piece) {
            const auto col = static_cast<uint32_t>(piece % across) * cols;
            const uint64_t first = piece / across * rows;
            const auto at = [&](uint64_t offset, uint32_t stride, uint64_t row) {
                return reinterpret_cast<float*>(region.base() + offset) + row * stride + col;
            };
            for (uint64_t row = first; row < std::min<uint64_t>(first + rows, r.rows); ++row) {
                const float* y = has_second_operand(r.kind) ? at(r.y_offset, r.ldy, row) : nullptr;
                function(at(r.x_offset, r.ldx, row), y, at(r.out_offset, r.ldout, row), std::min(cols, r.cols - col),
                         r.eps);
            }
        });
        return {};
    }

  protected:
    explicit HostDevice(const RowKernels& row_kernels) : row_kernels_(row_kernels) {}

    // Calls piece(0) … piece(count - 1), in any order, on any threads of this device.
    virtual void spread(uint64_t count, const std::function<void(uint64_t)>& piece) {
        for (uint64_t i = 0; i < count; ++i) piece(i);
    }

  private:
    virtual void run(const GemmArgs& args) = 0;

    const RowKernels& row_kernels_;
};

class ReferenceDevice final : public HostDevice {
  public:
    ReferenceDevice() : HostDevice(reference::row_kernels()) {}
    std::string_view name() const override { return "reference"; }

  private:
    void run(const GemmArgs& args) override { reference::gemm(args); }
};

class CpuDevice final : public HostDevice {
  public:
    CpuDevice(const GemmKernels& gemm, const RowKernels& rows, uint32_t threads)
        : HostDevice(rows), pool_(threads, [] { FpEnvironment::enter(Subnormals::kKeep); }), gemm_(gemm, pool_) {}
    std::string_view name() const override { return "cpu"; }

  private:
    void run(const GemmArgs& args) override { gemm_.run(args); }
    void spread(uint64_t count, const std::function<void(uint64_t)>& piece) override {
        const bool worth_it = pool_.threads() > 1 && count >= kPiecesWorthThreads;
        if (!worth_it) return HostDevice::spread(count, piece);
        pool_.run(static_cast<uint32_t>(count), piece);  // 2^32 pieces would be 2^47 numbers
    }

    LazyPool pool_;
    CpuGemm gemm_;
};

std::unique_ptr<Device> make_cpu_device([[maybe_unused]] uint32_t threads) {
    if (threads == 0) threads = available_cores();
#if defined(DRIFTWOOD_ARM)
    return std::make_unique<CpuDevice>(neon::gemm_kernels(), neon::row_kernels(), threads);
#else
#if defined(DRIFTWOOD_X86)
    if (cpu_has_avx512()) return std::make_unique<CpuDevice>(avx512::gemm_kernels(), avx512::row_kernels(), threads);
    if (cpu_has_avx2()) return std::make_unique<CpuDevice>(avx2::gemm_kernels(), avx2::row_kernels(), threads);
#endif
    return std::make_unique<ReferenceDevice>();
#endif
}

}  // namespace

Result<void> check_gemm(const Gemm& g, uint64_t size_bytes) {
    const auto stored = [](const char* name, uint64_t offset, ElementType type, Transpose transpose, uint32_t rows,
                           uint32_t cols, uint32_t stride) {
        if (transpose == Transpose::kYes) std::swap(rows, cols);
        return Matrix{"gemm", name, offset, type, rows, cols, stride};
    };
    if (g.a_transpose > Transpose::kYes || g.b_transpose > Transpose::kYes)
        return bad("gemm", "transpose", "0 or 1", "more");
    DW_ASSIGN(const Extent a,
              check_matrix(stored("a", g.a_offset, g.a_type, g.a_transpose, g.m, g.k, g.lda), size_bytes));
    DW_ASSIGN(const Extent b,
              check_matrix(stored("b", g.b_offset, g.b_type, g.b_transpose, g.k, g.n, g.ldb), size_bytes));
    DW_ASSIGN(const Extent c,
              check_matrix(stored("c", g.c_offset, g.c_type, Transpose::kNo, g.m, g.n, g.ldc), size_bytes));
    if (c.overlaps(a)) return bad("gemm", "c", "bytes of its own", "an overlap with a");
    if (c.overlaps(b)) return bad("gemm", "c", "bytes of its own", "an overlap with b");
    return {};
}

Result<void> check_rows(const Rows& r, uint64_t size_bytes) {
    if (static_cast<uint32_t>(r.kind) >= kRowKinds) {
        return bad("rows", "kind", "below " + std::to_string(kRowKinds), std::to_string(static_cast<uint32_t>(r.kind)));
    }
    if (r.cols > kMaxRowValues) {
        return bad("rows", "cols", "at most " + std::to_string(kMaxRowValues), std::to_string(r.cols));
    }
    const auto stored = [&r](const char* name, uint64_t offset, uint32_t rows, uint32_t stride) {
        return Matrix{"rows", name, offset, ElementType::kF32, rows, r.cols, stride};
    };
    DW_ASSIGN(const Extent x, check_matrix(stored("x", r.x_offset, r.rows, r.ldx), size_bytes));
    DW_ASSIGN(const Extent out, check_matrix(stored("out", r.out_offset, r.rows, r.ldout), size_bytes));
    const bool out_is_x = r.x_offset == r.out_offset && (r.ldx == r.ldout || r.rows == 1);
    if (out.overlaps(x) && !out_is_x) return bad("rows", "out", "x itself or bytes of its own", "a part of x");
    if (!has_second_operand(r.kind)) return {};
    const bool shared = r.ldy == 0;
    const Matrix matrix = stored("y", r.y_offset, shared ? std::min(r.rows, 1U) : r.rows, shared ? r.cols : r.ldy);
    DW_ASSIGN(const Extent y, check_matrix(matrix, size_bytes));
    const bool out_is_y = r.y_offset == r.out_offset && (r.ldy == r.ldout || r.rows == 1);
    if (out.overlaps(y) && !out_is_y) return bad("rows", "out", "y itself or bytes of its own", "a part of y");
    return {};
}

namespace {

#if defined(DRIFTWOOD_CUDA)
DeviceInfo cuda_info() { return {"cuda", cuda::available(), cuda::kNeeds}; }
Result<std::unique_ptr<Device>> make_cuda_device() { return cuda::make_device(); }
#else
DeviceInfo cuda_info() { return {"cuda", false, "a program that was built with CUDA (-DDRIFTWOOD_CUDA=ON)"}; }
Result<std::unique_ptr<Device>> make_cuda_device() { CHECK(false); }  // never available
#endif

}  // namespace

std::span<const DeviceInfo> devices() {
    static const std::vector<DeviceInfo> kDevices = {{"reference", true, ""}, {"cpu", true, ""}, cuda_info()};
    return kDevices;
}

Result<std::unique_ptr<Device>> make_device(std::string_view name, uint32_t threads) {
    std::string known;
    for (const DeviceInfo& info : devices()) {
        known += (known.empty() ? "" : ", ") + std::string(info.name);
        if (info.name != name) continue;
        if (!info.available) {
            return error(ErrorCode::kUnsupported, "[compute.device] " + std::string(name) + ": needs " +
                                                      std::string(info.needs) + ", which this machine lacks; use cpu");
        }
        if (name == "cuda") return make_cuda_device();
        if (name == "cpu") return make_cpu_device(threads);
        return std::unique_ptr<Device>(std::make_unique<ReferenceDevice>());
    }
    return error(ErrorCode::kNotFound, "[compute.device] " + std::string(name) + ": want one of " + known);
}

}  // namespace driftwood::compute
