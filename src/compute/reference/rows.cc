// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include <cmath>
#include <limits>

#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

// Which operand's payload a NaN keeps differs between instructions: one NaN for all.
float one_nan(float x) { return std::isnan(x) ? __builtin_nanf("") : x; }

void add_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(x[i] + y[i]);
}

void multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(x[i] * y[i]);
}

void silu_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(silu(x[i]));
}

void silu_multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(silu(x[i]) * y[i]);
}

void softmax_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    float max = -std::numeric_limits<float>::infinity();
    bool nan = false;
    for (uint32_t i = 0; i < n; ++i) {
        max = x[i] > max ? x[i] : max;
        nan = nan || std::isnan(x[i]);
    }
    for (uint32_t i = 0; i < n; ++i) out[i] = exp_f32(x[i] - max);
    const float sum = nan ? __builtin_nanf("") : ordered_sum({out, n});
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(out[i] / sum);
}

void rms_norm_row(const float* x, const float* y, float* out, uint32_t n, float eps) {
    rms_norm(x, y, n, eps, out);
    for (uint32_t i = 0; i < n; ++i) out[i] = one_nan(out[i]);
}

}  // namespace

const RowKernels& row_kernels() {
    static constexpr RowKernels kKernels = {
        {add_row, multiply_row, silu_row, silu_multiply_row, softmax_row, rms_norm_row}};
    return kKernels;
}

}  // namespace driftwood::compute::reference
