// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

__m512 one_nan(__m512 x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_set1_ps(__builtin_nanf("")));
}

__m512 silu_lanes(__m512 g) {
    const __m512 denominator = _mm512_add_ps(_mm512_set1_ps(1.0F), exp_lanes(_mm512_xor_ps(g, _mm512_set1_ps(-0.0F))));
    return _mm512_div_ps(g, denominator);
}

template <class Lanes>
void each(const float* x, const float* y, float* out, uint32_t n, Lanes lanes) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512 a = _mm512_maskz_loadu_ps(mask, x + i);
        const __m512 b = y == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, y + i);
        _mm512_mask_storeu_ps(out + i, mask, one_nan(lanes(a, b)));
    }
}

void add_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
}

void multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m512 a, __m512 b) { return _mm512_mul_ps(a, b); });
}

void silu_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    each(x, nullptr, out, n, [](__m512 a, __m512) { return silu_lanes(a); });
}

void silu_multiply_row(const float* x, const float* y, float* out, uint32_t n, float /*eps*/) {
    each(x, y, out, n, [](__m512 a, __m512 b) { return _mm512_mul_ps(silu_lanes(a), b); });
}

// EXP(x - max) into out, and their sum in rule 4's order.
float exponentials(const float* x, float max, float* out, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        __m512 lane[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l ^= 1) {
            const __mmask16 mask = lanes_left(i, end);
            const __m512 e = exp_lanes(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_set1_ps(max)));
            _mm512_mask_storeu_ps(out + i, mask, e);
            // Missing values are +0, which leaves a lane that is not negative as it is.
            lane[l] = _mm512_add_ps(lane[l], _mm512_maskz_mov_ps(mask, e));
        }
        sum = sum + fold(lane[0], lane[1]);
    }
    return sum;
}

void softmax_row(const float* x, const float* /*y*/, float* out, uint32_t n, float /*eps*/) {
    const __m512 least = _mm512_set1_ps(float_of(0xFF800000U));
    __m512 max = least;
    __mmask16 nan = 0;
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m512 value = _mm512_mask_loadu_ps(least, lanes_left(i, n), x + i);
        max = _mm512_max_ps(value, max);  // keeps the second one when a value is no number
        nan |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    }
    const float exact_max = _mm512_reduce_max_ps(max);
    float sum = exponentials(x, exact_max, out, n);
    if (nan != 0) sum = __builtin_nanf("");
    const __m512 divisor = _mm512_set1_ps(sum);
    each(out, nullptr, out, n, [divisor](__m512 e, __m512) { return _mm512_div_ps(e, divisor); });
}

void rms_norm_row(const float* x, const float* y, float* out, uint32_t n, float eps) {
    rms_norm(x, y, n, eps, out);
    each(out, nullptr, out, n, [](__m512 a, __m512) { return a; });
}

}  // namespace

const RowKernels& row_kernels() {
    static constexpr RowKernels kKernels = {
        {add_row, multiply_row, silu_row, silu_multiply_row, softmax_row, rms_norm_row}};
    return kKernels;
}

}  // namespace driftwood::compute::avx512
