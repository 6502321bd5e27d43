// Operations over the rows of a guest's tensors, for kernels (docs/numerics.md, rule 10). Plain data and pointers, no
// inline functions (see kernels.h).
#pragma once

#include <cstdint>

namespace driftwood::compute {

enum class RowKind : uint8_t {
    kAdd,           // x + y
    kMultiply,      // x · y
    kSilu,          // SILU(x)
    kSiluMultiply,  // SILU(x) · y
    kSoftmax,       // over the row
    kRmsNorm,       // over the row; y is the weight
};
inline constexpr uint32_t kRowKinds = 6;

// One row of n <= kMaxRowValues floats. out may be x or y. y is null where the operation has none; eps is RMSNorm's.
// Every NaN among the results is 0x7FC00000.
using RowFunction = void (*)(const float* x, const float* y, float* out, uint32_t n, float eps);

inline constexpr uint32_t kMaxRowValues = uint32_t{1} << 30;

struct RowKernels {
    RowFunction of_kind[kRowKinds];  // in the order of RowKind
};

}  // namespace driftwood::compute
