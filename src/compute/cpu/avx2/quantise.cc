// Rule 2 (A32P) and the row quantisation of rule 7.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

// 8 values in 32 bits, clamped to ±127.
__m256i quantise_lanes(__m256 x, __m256 to_integer) {
    const __m256i q = round_int(_mm256_mul_ps(x, to_integer));
    return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(kMaxA8)), _mm256_set1_epi32(-kMaxA8));
}

uint32_t max_magnitude_bits(const float* x, uint32_t n) {
    __m256i most = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += kLanes) {
        most = _mm256_max_epu32(most, magnitude_bits(_mm256_maskload_ps(x + i, lanes_left(i, n))));
    }
    return reduce_max(most);
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        __m256 value[4];
        __m256i magnitude = _mm256_setzero_si256();
        for (uint32_t i = 0; i < 4; ++i) {
            value[i] = _mm256_loadu_ps(x + size_t{group} * kGroup + i * kLanes);
            magnitude = _mm256_max_epu32(magnitude, magnitude_bits(value[i]));
        }
        const uint32_t most = reduce_max(magnitude);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const __m256 to_integer = _mm256_set1_ps(tiny ? 0.0F : power_of_two(-e));
        __m256i lanes[4];
        for (uint32_t i = 0; i < 4; ++i) lanes[i] = quantise_lanes(value[i], to_integer);
        // Packing works inside 128 bits: words come out in the order 0, 2, 4, 6, 1, 3, 5, 7.
        const __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(lanes[0], lanes[1]), _mm256_packs_epi32(lanes[2], lanes[3]));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.high + size_t{group} * kGroup),
                            _mm256_permutevar8x32_epi32(packed, order));
        out.scale[group] = tiny ? 0.0F : power_of_two(e);
        out.high_sum[2 * group] = reduce_add(_mm256_add_epi32(lanes[0], lanes[1]));
        out.high_sum[2 * group + 1] = reduce_add(_mm256_add_epi32(lanes[2], lanes[3]));
    }
    return most_of_all < kInfinityBits;
}

bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    const uint32_t most = max_magnitude_bits(x, n);
    const bool tiny = most < bits_of(kTiny);
    const float am = float_of(most);
    const __m256 to_integer = _mm256_set1_ps(tiny ? 0.0F : max / am);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __m256i value = round_int(_mm256_mul_ps(_mm256_maskload_ps(x + i, lanes_left(i, n)), to_integer));
        // At most ±32767 where the row is finite: packing saturates nothing.
        const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));
        if (n - i >= kLanes) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), packed);
        } else {
            int16_t last[kLanes];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(last), packed);
            for (uint32_t l = 0; l < n - i; ++l) q[i + l] = last[l];
        }
    }
    *scale = tiny ? 0.0F : am / max;
    return most < kInfinityBits;
}

bool all_finite(const float* x, uint32_t n) { return max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::avx2
