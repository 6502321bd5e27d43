// Device: tensor work over a guest's own bytes. A device imports a memory::Region without a copy and then addresses it
// by offsets; results land in the Region. Every device gives the bits of the reference (numerics contract, rule 10).
// A device that has memory of its own can also stage: copy operands there and results back; which way is faster depends
// on how often a byte is used. Threads: one submitting thread per device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "compute/gemm.h"
#include "compute/rows.h"
#include "memory/region.h"

namespace driftwood::compute {

// C [m, n] = A [m, k] · B [k, n] (+ C when accumulate), row-major with leading dimensions in elements; a transposed A
// is stored as [k, m], a transposed B as [n, k]. Inputs are widened to float exactly; one fma chain per output over
// ascending k from +0; accumulate is one addition of the old C at the end; one rounding to C's type.
struct Gemm {
    uint64_t a_offset = 0, b_offset = 0, c_offset = 0;  // bytes from the Region's base, multiples of the element's size
    uint32_t m = 0, n = 0, k = 0;
    uint32_t lda = 0, ldb = 0, ldc = 0;
    bool accumulate = false;
    ElementType a_type = ElementType::kF32, b_type = ElementType::kF32, c_type = ElementType::kF32;
    Transpose a_transpose = Transpose::kNo, b_transpose = Transpose::kNo;
};

using GemmF32 = Gemm;  // for who sets nothing below accumulate

// Whether all three extents lie inside `size_bytes`, leading dimensions cover their rows, offsets are aligned, types
// are types, C overlaps neither A nor B, and nothing overflows. The first thing that does not hold is named: kLimit for
// an extent that is not inside, kInvalidArgument for everything else.
Result<void> check_gemm(const Gemm& gemm, uint64_t size_bytes);

// out [rows, cols] = an operation over x, and y where it has one; f32, leading dimensions in elements. ldy = 0: one row
// of y for all rows (a bias, RMSNorm's weight). out may be x or y itself (same offset, same leading dimension).
struct Rows {
    RowKind kind = RowKind::kAdd;
    uint64_t x_offset = 0, y_offset = 0, out_offset = 0;  // bytes from the Region's base, multiples of 4
    uint32_t rows = 0, cols = 0;                          // cols at most kMaxRowValues
    uint32_t ldx = 0, ldy = 0, ldout = 0;
    float eps = 0.0F;  // RMSNorm's
};

// As check_gemm.
Result<void> check_rows(const Rows& rows, uint64_t size_bytes);

enum class Path : uint8_t {
    kInPlace,  // the Region's bytes, where they lie
    kStaged,   // a copy in the device's own memory
};
struct Choice {
    Path path = Path::kInPlace;
    std::string why;  // for people, with the figures it rests on
};

// What a device with memory of its own did so far, in bytes. In place, it is what kernels asked for: caches between may
// have spared the bus some of it.
struct BusTraffic {
    uint64_t to_device = 0;
    uint64_t from_device = 0;
    uint64_t registered = 0;   // of Regions, made reachable where they lie
    uint64_t register_ns = 0;  // which took so long
    uint64_t bounced = 0;      // of to_device and from_device: through a buffer, from memory that cannot be registered
};

class Device {
  public:
    virtual ~Device() = default;
    virtual std::string_view name() const = 0;
    // The address at which kernels of this device see the Region's first byte: the same pointer where memory is shared.
    virtual const uint8_t* address(const memory::Region& region) const = 0;
    // Checks (check_gemm against region.size()) and runs; returns when the result is in place. Holds the Region
    // meanwhile: it may grow, and whoever would remap it fails a CHECK. A device without memory of its own has one
    // path.
    virtual Result<void> gemm(memory::Region& region, const Gemm& gemm, Path path) = 0;
    // Likewise with check_rows.
    virtual Result<void> rows(memory::Region& region, const Rows& rows, Path path) = 0;

    virtual bool stages() const { return false; }
    // The path that is faster here for a checked operation.
    virtual Choice choose(const Gemm&) const { return {Path::kInPlace, "the device's memory is the guest's"}; }
    virtual Choice choose(const Rows&) const { return {Path::kInPlace, "the device's memory is the guest's"}; }
    virtual BusTraffic traffic() const { return {}; }

    Result<void> gemm(memory::Region& region, const Gemm& g) { return gemm(region, g, choose(g).path); }
    Result<void> rows(memory::Region& region, const Rows& r) { return rows(region, r, choose(r).path); }
};

// Whether there is a y at all.
constexpr bool has_second_operand(RowKind kind) { return kind != RowKind::kSilu && kind != RowKind::kSoftmax; }

// The devices of this program: "reference", "cpu", and "cuda" where it was built with CUDA; whether this machine has
// them, and what it would need.
struct DeviceInfo {
    std::string_view name;
    bool available = false;
    std::string_view needs;
};
std::span<const DeviceInfo> devices();

// One of devices(); kUnsupported names what the machine lacks. "cpu" is vectorised where the machine allows, on
// `threads` threads with the caller (0: one per core that this process may use). Helper threads start with the first
// operation that is worth it and sleep in between.
Result<std::unique_ptr<Device>> make_device(std::string_view name, uint32_t threads = 0);

}  // namespace driftwood::compute
