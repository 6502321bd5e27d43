// Rule 2 and the row quantisation of rule 7.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

// 16 values in 32 bits, clamped to ±127.
__m512i quantise_lanes(__m512 x, __m512 to_integer) {
    const __m512i q = round_int(_mm512_mul_ps(x, to_integer));
    return _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(kMaxA8)), _mm512_set1_epi32(-kMaxA8));
}

uint32_t max_magnitude_bits(const float* x, uint32_t n) {
    __m512i most = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += kLanes) {
        most = _mm512_max_epu32(most, magnitude_bits(_mm512_maskz_loadu_ps(lanes_left(i, n), x + i)));
    }
    return _mm512_reduce_max_epu32(most);
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const __m512 low = _mm512_loadu_ps(x + group * kGroup);
        const __m512 high = _mm512_loadu_ps(x + group * kGroup + kLanes);
        const uint32_t most = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude_bits(low), magnitude_bits(high)));
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const __m512 to_integer = _mm512_set1_ps(tiny ? 0.0F : power_of_two(-e));
        const __m512i q_low = quantise_lanes(low, to_integer);
        const __m512i q_high = quantise_lanes(high, to_integer);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out.high + group * kGroup), _mm512_cvtepi32_epi8(q_low));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out.high + group * kGroup + kLanes), _mm512_cvtepi32_epi8(q_high));
        out.scale[group] = tiny ? 0.0F : power_of_two(e);
        out.high_sum[2 * group] = reduce_add(q_low);
        out.high_sum[2 * group + 1] = reduce_add(q_high);
    }
    return most_of_all < kInfinityBits;
}

namespace {

// Quantised values, 16 at a time, with their sum.
struct Sixteen {
    __m128i bytes;
    int32_t sum;
};

Sixteen narrow(__m512i q) { return {_mm512_cvtepi32_epi8(q), reduce_add(q)}; }

void store(const Sixteen& q, int8_t* out, int32_t* sum) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), q.bytes);
    *sum = q.sum;
}

}  // namespace

bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        const uint32_t most = max_magnitude_bits(x + begin, end - begin);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const auto range = static_cast<float>(kMaxA8);
        const __m512 to_integer = _mm512_set1_ps(tiny ? 0.0F : range / float_of(most));
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : float_of(most) / range;
        for (uint32_t i = begin; i < end; i += kLanes) {
            const __m512i q = round_int(_mm512_mul_ps(_mm512_loadu_ps(x + i), to_integer));
            store(narrow(q), out.high + i, out.high_sum + i / kSumGroup);
        }
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
        const float top = tiny ? 0.0F : float_of(most) * power_of_two(-e) + kRoundMagic;
        if (!tiny && static_cast<int32_t>(bits_of(top) - kRoundMagicBits) > kMaxA16) ++e;
        const __m512 to_integer = _mm512_set1_ps(tiny ? 0.0F : power_of_two(-e));
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : power_of_two(e);
        for (uint32_t i = begin; i < end; i += kLanes) {
            const __m512i a = round_int(_mm512_mul_ps(_mm512_loadu_ps(x + i), to_integer));
            const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(a, 24), 24);
            const __m512i high = _mm512_srai_epi32(_mm512_sub_epi32(a, low), 8);
            store(narrow(high), out.high + i, out.high_sum + i / kSumGroup);
            store(narrow(low), out.low + i, out.low_sum + i / kSumGroup);
        }
    }
    return most_of_all < kInfinityBits;
}

bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    const uint32_t most = max_magnitude_bits(x, n);
    const bool tiny = most < bits_of(kTiny);
    const float am = float_of(most);
    const __m512 to_integer = _mm512_set1_ps(tiny ? 0.0F : max / am);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512i value = round_int(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), to_integer));
        _mm512_mask_cvtepi32_storeu_epi16(q + i, mask, value);
    }
    *scale = tiny ? 0.0F : am / max;
    return most < kInfinityBits;
}

bool all_finite(const float* x, uint32_t n) { return max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::avx512
