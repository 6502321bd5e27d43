// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

void silu_multiply(const float* gate, const float* up, uint32_t n, float* out) {
    const __m512 sign = _mm512_set1_ps(-0.0F);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512 g = _mm512_maskz_loadu_ps(mask, gate + i);
        const __m512 denominator = _mm512_add_ps(_mm512_set1_ps(1.0F), exp_lanes(_mm512_xor_ps(g, sign)));
        const __m512 silu = _mm512_div_ps(g, denominator);
        _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
    }
}

void add(float* x, const float* y, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_maskz_loadu_ps(mask, y + i));
        _mm512_mask_storeu_ps(x + i, mask, sum);
    }
}

}  // namespace driftwood::compute::avx512
