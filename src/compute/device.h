// Device: tensor work over a guest's own bytes. A device imports a memory::Region without a copy and then addresses it
// by offsets; results land in the Region. Every device gives the bits of the reference (numerics contract, rule 10).
// Threads: one submitting thread per device.
#pragma once

#include <cstdint>
#include <memory>
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

class Device {
  public:
    virtual ~Device() = default;
    virtual std::string_view name() const = 0;
    // The address at which kernels of this device see the Region's first byte: the same pointer where memory is shared.
    virtual const uint8_t* address(const memory::Region& region) const = 0;
    // Checks (check_gemm against region.size()) and runs; returns when the result is in place. Holds the Region
    // meanwhile: it may grow, and whoever would remap it fails a CHECK.
    virtual Result<void> gemm(memory::Region& region, const Gemm& gemm) = 0;
    // Likewise with check_rows.
    virtual Result<void> rows(memory::Region& region, const Rows& rows) = 0;
};

// "reference" or "cpu": vectorised where the machine allows, on `threads` threads with the caller (0: one per core that
// this process may use). Helper threads start with the first operation that is worth it and sleep in between.
Result<std::unique_ptr<Device>> make_device(std::string_view name, uint32_t threads = 0);

}  // namespace driftwood::compute
