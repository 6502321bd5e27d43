// Device: tensor work over a guest's own bytes. A device imports a memory::Region without a copy and then addresses it
// by offsets; results land in the Region. Every device gives the bits of the reference (numerics contract, rule 10).
// Threads: one submitting thread per device.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "memory/region.h"

namespace driftwood::compute {

// C [m, n] = A [m, k] · B [k, n] (+ C when accumulate), f32, row-major with leading dimensions in elements. One fma
// chain per output over ascending k from +0; accumulate is one addition of the old C at the end.
struct GemmF32 {
    uint64_t a_offset = 0, b_offset = 0, c_offset = 0;  // bytes from the Region's base, multiples of 4
    uint32_t m = 0, n = 0, k = 0;
    uint32_t lda = 0, ldb = 0, ldc = 0;
    bool accumulate = false;
};

// Whether all three extents lie inside `size_bytes`, leading dimensions cover their rows, offsets are aligned, C
// overlaps neither A nor B, and nothing overflows. kInvalidArgument names the first thing that does not hold.
Result<void> check_gemm(const GemmF32& gemm, uint64_t size_bytes);

class Device {
  public:
    virtual ~Device() = default;
    virtual std::string_view name() const = 0;
    // The address at which kernels of this device see the Region's first byte: the same pointer where memory is shared.
    virtual const uint8_t* address(const memory::Region& region) const = 0;
    // Checks (check_gemm against region.size()) and runs; returns when the result is in place.
    virtual Result<void> gemm(memory::Region& region, const GemmF32& gemm) = 0;
};

// "reference" or "cpu" (vectorised where the machine allows).
Result<std::unique_ptr<Device>> make_device(std::string_view name);

}  // namespace driftwood::compute
