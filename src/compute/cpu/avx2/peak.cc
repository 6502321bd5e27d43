// The yardstick of the linear layers: 8-bit multiply-adds without VNNI, in registers alone.
#include <immintrin.h>

#include "compute/cpu/avx2/avx2.h"

namespace driftwood::compute::avx2 {

uint64_t multiply_adds(uint64_t rounds) {
    constexpr uint32_t kChains = 8;
    __m256i sum[kChains];
    for (__m256i& chain : sum) chain = _mm256_setzero_si256();
    __m256i a = _mm256_set1_epi8(3);
    __m256i b = _mm256_set1_epi8(-1);
    const __m256i ones = _mm256_set1_epi16(1);
    for (uint64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
        for (uint32_t k = 0; k < kChains; ++k) {
            asm volatile("" : "+x"(a), "+x"(b));  // else one product would serve all chains
            sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        }
    }
    for (__m256i& chain : sum) asm volatile("" : "+x"(chain));
    return rounds * kChains * 32;
}

}  // namespace driftwood::compute::avx2
