// The yardstick of the linear layers: VPDPBUSD in registers alone.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

uint64_t multiply_adds(uint64_t rounds) {
    constexpr uint32_t kChains = 12;  // enough to hide the latency of one
    __m512i sum[kChains];
    for (__m512i& chain : sum) chain = _mm512_setzero_si512();
    __m512i a = _mm512_set1_epi8(3);
    __m512i b = _mm512_set1_epi8(-1);
    for (uint64_t i = 0; i < rounds; ++i) {
        asm volatile("" : "+v"(a), "+v"(b));  // else the compiler computes the loop's result itself
#pragma GCC unroll 12
        for (uint32_t k = 0; k < kChains; ++k) sum[k] = _mm512_dpbusd_epi32(sum[k], a, b);
    }
    for (__m512i& chain : sum) asm volatile("" : "+v"(chain));
    return rounds * kChains * 64;
}

}  // namespace driftwood::compute::avx512
