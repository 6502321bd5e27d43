// Rule 4: RMSNorm. The 32 lanes of the rule are two registers.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

float sum_of_squares(const float* x, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        __m512 lane[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        // Missing values are +0: fma(0, 0, lane) leaves a lane as it is.
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l ^= 1) {
            const __m512 value = _mm512_maskz_loadu_ps(lanes_left(i, end), x + i);
            lane[l] = _mm512_fmadd_ps(value, value, lane[l]);
        }
        sum = sum + fold(lane[0], lane[1]);
    }
    return sum;
}

}  // namespace

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    const float sum = sum_of_squares(x, n);
    const float mean = __builtin_fmaf(sum, 1.0F / static_cast<float>(n), eps);
    const float r = 1.0F / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
    const __m512 factor = _mm512_set1_ps(r);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
        _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(mask, weight + i)));
    }
    return (bits_of(sum) & 0x7FFFFFFFU) < kInfinityBits;
}

}  // namespace driftwood::compute::avx512
