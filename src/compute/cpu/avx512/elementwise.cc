// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

__m512 exp_lanes(__m512 x) {
    const __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpLow), _CMP_GT_OQ);
    x = _mm512_min_ps(x, _mm512_set1_ps(kExpHigh));
    const __m512 n = round_float(_mm512_mul_ps(x, _mm512_set1_ps(kLog2E)));
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(kLn2High), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(kLn2Low), r);
    __m512 p = _mm512_set1_ps(kExpPoly[0]);
    for (int i = 1; i < 6; ++i) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpPoly[i]));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0F));
    const __m512i exponent = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    return _mm512_maskz_mov_ps(above, _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent)));
}

}  // namespace

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
