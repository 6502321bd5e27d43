// Rule 4: RMSNorm. The 32 lanes of the rule are four registers.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

float sum_of_squares(const float* x, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        __m256 lane[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        // Missing values are +0: fma(0, 0, lane) leaves a lane as it is.
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l = (l + 1) % 4) {
            const __m256 value = _mm256_maskload_ps(x + i, lanes_left(i, end));
            lane[l] = _mm256_fmadd_ps(value, value, lane[l]);
        }
        sum = sum + fold(lane);
    }
    return sum;
}

}  // namespace

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    const float sum = sum_of_squares(x, n);
    const float mean = __builtin_fmaf(sum, 1.0F / static_cast<float>(n), eps);
    const float r = 1.0F / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
    const __m256 factor = _mm256_set1_ps(r);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i mask = lanes_left(i, n);
        const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), factor);
        _mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(scaled, _mm256_maskload_ps(weight + i, mask)));
    }
    return (bits_of(sum) & 0x7FFFFFFFU) < kInfinityBits;
}

}  // namespace driftwood::compute::avx2
