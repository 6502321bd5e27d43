// Rule 2 and the row quantisation of rule 7.
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

// 32 numbers of 32 bits, each of which fits into 8, as bytes. Packing works inside 128 bits: words come out in the
// order 0, 2, 4, 6, 1, 3, 5, 7.
__m256i pack_32(const __m256i lanes[4]) {
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(lanes[0], lanes[1]), _mm256_packs_epi32(lanes[2], lanes[3]));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Writes a group of 32 and its sums.
void store_group(const __m256i lanes[4], int8_t* q, int32_t* sum) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), pack_32(lanes));
    sum[0] = reduce_add(_mm256_add_epi32(lanes[0], lanes[1]));
    sum[1] = reduce_add(_mm256_add_epi32(lanes[2], lanes[3]));
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const float* values = x + size_t{group} * kGroup;
        const uint32_t most = max_magnitude_bits(values, kGroup);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const __m256 to_integer = _mm256_set1_ps(tiny ? 0.0F : power_of_two(-e));
        __m256i lanes[4];
        for (uint32_t i = 0; i < 4; ++i) lanes[i] = quantise_lanes(_mm256_loadu_ps(values + i * kLanes), to_integer);
        store_group(lanes, out.high + size_t{group} * kGroup, out.high_sum + size_t{group} * 2);
        out.scale[group] = tiny ? 0.0F : power_of_two(e);
    }
    return most_of_all < kInfinityBits;
}

bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        const uint32_t most = max_magnitude_bits(x + begin, end - begin);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const float max = static_cast<float>(kMaxA8);
        const __m256 to_integer = _mm256_set1_ps(tiny ? 0.0F : max / float_of(most));
        for (uint32_t at = begin; at < end; at += kGroup) {
            __m256i lanes[4];
            for (uint32_t i = 0; i < 4; ++i) {
                lanes[i] = round_int(_mm256_mul_ps(_mm256_loadu_ps(x + at + i * kLanes), to_integer));
            }
            store_group(lanes, out.high + at, out.high_sum + at / kSumGroup);
        }
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : float_of(most) / max;
    }
    return most_of_all < kInfinityBits;
}

bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        const uint32_t most = max_magnitude_bits(x + begin, end - begin);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;  // floor(log2 max) - 14
        const float largest = float_of(most) * power_of_two(-e) + kRoundMagic;
        if (!tiny && static_cast<int32_t>(bits_of(largest) - kRoundMagicBits) > kMaxA16) ++e;
        const __m256 to_integer = _mm256_set1_ps(tiny ? 0.0F : power_of_two(-e));
        for (uint32_t at = begin; at < end; at += kGroup) {
            __m256i high[4];
            __m256i low[4];
            for (uint32_t i = 0; i < 4; ++i) {
                const __m256i a = round_int(_mm256_mul_ps(_mm256_loadu_ps(x + at + i * kLanes), to_integer));
                low[i] = _mm256_srai_epi32(_mm256_slli_epi32(a, 24), 24);
                high[i] = _mm256_srai_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(128)), 8);
            }
            store_group(high, out.high + at, out.high_sum + at / kSumGroup);
            store_group(low, out.low + at, out.low_sum + at / kSumGroup);
        }
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : power_of_two(e);
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
