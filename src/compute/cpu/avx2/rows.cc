// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

__m256 one_nan(__m256 x) {
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_blendv_ps(x, _mm256_set1_ps(__builtin_nanf("")), nan);
}

__m256 silu_lanes(__m256 g) {
    const __m256 denominator = _mm256_add_ps(_mm256_set1_ps(1.0F), exp_lanes(_mm256_xor_ps(g, _mm256_set1_ps(-0.0F))));
    return _mm256_div_ps(g, denominator);
}

template <class Lanes>
void each(const float* x, const float* y, float* out, uint32_t n, Lanes lanes) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i mask = lanes_left(i, n);
        const __m256 a = _mm256_maskload_ps(x + i, mask);
        const __m256 b = y == nullptr ? _mm256_setzero_ps() : _mm256_maskload_ps(y + i, mask);
        _mm256_maskstore_ps(out + i, mask, one_nan(lanes(a, b)));
    }
}

void add_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m256 a, __m256 b) { return _mm256_add_ps(a, b); });
}

void multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m256 a, __m256 b) { return _mm256_mul_ps(a, b); });
}

void silu_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    each(x, nullptr, out, n, [](__m256 a, __m256) { return silu_lanes(a); });
}

void silu_multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m256 a, __m256 b) { return _mm256_mul_ps(silu_lanes(a), b); });
}

// EXP(x - max) into out, and their sum in rule 4's order.
float exponentials(const float* x, float max, float* out, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        __m256 lane[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l = (l + 1) % 4) {
            const __m256i mask = lanes_left(i, end);
            const __m256 e = exp_lanes(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), _mm256_set1_ps(max)));
            _mm256_maskstore_ps(out + i, mask, e);
            // Missing values are +0, which leaves a lane that is not negative as it is.
            lane[l] = _mm256_add_ps(lane[l], _mm256_and_ps(e, _mm256_castsi256_ps(mask)));
        }
        sum = sum + fold(lane);
    }
    return sum;
}

void softmax_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    const __m256 least = _mm256_set1_ps(float_of(0xFF800000U));
    __m256 max = least;
    __m256 nan = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i mask = lanes_left(i, n);
        const __m256 value = _mm256_blendv_ps(least, _mm256_maskload_ps(x + i, mask), _mm256_castsi256_ps(mask));
        max = _mm256_max_ps(value, max);  // keeps the second one when a value is no number
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    }
    float sum = exponentials(x, reduce_max(max), out, n);
    if (_mm256_movemask_ps(nan) != 0) sum = __builtin_nanf("");
    const __m256 divisor = _mm256_set1_ps(sum);
    each(out, nullptr, out, n, [divisor](__m256 e, __m256) { return _mm256_div_ps(e, divisor); });
}

void rms_norm_row(const float* x, const float* y, float* out, uint32_t n, float eps) {
    rms_norm(x, y, n, eps, out);
    each(out, nullptr, out, n, [](__m256 a, __m256) { return a; });
}

}  // namespace

const RowKernels& row_kernels() {
    static constexpr RowKernels kKernels = {
        {add_row, multiply_row, silu_row, silu_multiply_row, softmax_row, rms_norm_row}};
    return kKernels;
}

}  // namespace driftwood::compute::avx2
