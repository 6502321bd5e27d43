// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

void silu_multiply(const float* gate, const float* up, uint32_t n, float* out) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i mask = lanes_left(i, n);
        const __m256 g = _mm256_maskload_ps(gate + i, mask);
        const __m256 denominator = _mm256_add_ps(_mm256_set1_ps(1.0F), exp_lanes(_mm256_xor_ps(g, sign)));
        const __m256 silu = _mm256_div_ps(g, denominator);
        _mm256_maskstore_ps(out + i, mask, _mm256_mul_ps(silu, _mm256_maskload_ps(up + i, mask)));
    }
}

void add(float* x, const float* y, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i mask = lanes_left(i, n);
        const __m256 sum = _mm256_add_ps(_mm256_maskload_ps(x + i, mask), _mm256_maskload_ps(y + i, mask));
        _mm256_maskstore_ps(x + i, mask, sum);
    }
}

}  // namespace driftwood::compute::avx2
