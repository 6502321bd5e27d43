// What AVX2 brings to compute/cpu/weight_lanes.h and linear_lanes.h: 8 rows of a matrix. Internal linkage.
#pragma once

#include "compute/cpu/avx2/lanes.h"
#include "compute/cpu/linear_lanes.h"

namespace driftwood::compute::avx2 {

namespace {

struct Isa {
    static constexpr uint32_t kRows = kLanes;
    static constexpr bool kSignedBytes = false;
    using Int = __m256i;
    using Float = __m256;
    using Rows = RowsOf<Isa>;

    static Int set(int32_t x) { return _mm256_set1_epi32(x); }
    static Int both(Int a, Int b) { return _mm256_and_si256(a, b); }
    static Int either(Int a, Int b) { return _mm256_or_si256(a, b); }
    static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
    static Int multiply(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
    static Int subtract_bytes(Int a, Int b) { return _mm256_sub_epi8(a, b); }
    static Int right(Int a, uint32_t n) { return _mm256_srli_epi32(a, static_cast<int>(n)); }
    static Int left(Int a, uint32_t n) { return _mm256_slli_epi32(a, static_cast<int>(n)); }
    static Int right_signed(Int a, uint32_t n) { return _mm256_srai_epi32(a, static_cast<int>(n)); }
    static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
    static Float splat(float x) { return _mm256_set1_ps(x); }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float fms(Float a, Float b, Float c) { return _mm256_fmsub_ps(a, b, c); }
    static void store(float* y, uint32_t count, Float x) { _mm256_maskstore_ps(y, lanes_left(0, count), x); }

    static Float low_half(Int words) {
        // The low halves of four words to the front of each 128 bits, then side by side.
        const Int order = _mm256_set1_epi64x(0x0D0C090805040100);
        const Int halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, order), 0x08);
        return _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    }

    static Int load_word(const Rows& rows, size_t at) {
        const auto word = [&](uint32_t row) {
            int32_t x = 0;
            __builtin_memcpy(&x, rows.row[row] + at, sizeof(x));
            return x;
        };
        return _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
    }

    // Rows i and i + 4 side by side, then 4 x 4 words transposed in each half.
    static void load_words(const Rows& rows, size_t at, Int out[4]) {
        Int in[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            const auto* low = reinterpret_cast<const __m128i*>(rows.row[i] + at);
            const auto* high = reinterpret_cast<const __m128i*>(rows.row[i + 4] + at);
            in[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
        }
        const Int a = _mm256_unpacklo_epi32(in[0], in[1]);
        const Int b = _mm256_unpacklo_epi32(in[2], in[3]);
        const Int c = _mm256_unpackhi_epi32(in[0], in[1]);
        const Int d = _mm256_unpackhi_epi32(in[2], in[3]);
        out[0] = _mm256_unpacklo_epi64(a, b);
        out[1] = _mm256_unpackhi_epi64(a, b);
        out[2] = _mm256_unpacklo_epi64(c, d);
        out[3] = _mm256_unpackhi_epi64(c, d);
    }

    // Four activations, for every lane.
    static Int broadcast(const int8_t* q) {
        int32_t word = 0;
        __builtin_memcpy(&word, q, sizeof(word));
        return _mm256_set1_epi32(word);
    }

    // Q8_0. VPMADDUBSW wants one side unsigned and saturates pairs at 32767: the weight's magnitude takes the one side,
    // the activation with the weight's sign the other, and a pair is at most 2 · 128 · 127 = 32512.
    static Int products_of_signed(Int words, Int q) {
        const Int pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(words), _mm256_sign_epi8(q, words));
        return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }

    // Q8_0 and digits, one of which may be −128, whose sign cannot be turned: 16 bits, odd bytes and even ones.
    static Int products_of_digits(Int words, Int q) {
        const Int odd = _mm256_madd_epi16(_mm256_srai_epi16(words, 8), _mm256_srai_epi16(q, 8));
        const Int even = _mm256_madd_epi16(_mm256_srai_epi16(_mm256_slli_epi16(words, 8), 8),
                                           _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8));
        return _mm256_add_epi32(odd, even);
    }

    template <ActivationKind kKind, uint32_t kWords>
    static Int dot_signed(const Int* words, const int8_t* q) {
        Int sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
#pragma GCC unroll 8
        for (uint32_t w = 0; w < kWords; ++w) {
            const Int four = broadcast(q + size_t{4} * w);
            sum[w % 2] =
                _mm256_add_epi32(sum[w % 2], kKind == ActivationKind::kA16 ? products_of_digits(words[w], four)
                                                                           : products_of_signed(words[w], four));
        }
        return _mm256_add_epi32(sum[0], sum[1]);
    }

    // Numbers without sign: pairs of a few registers fit into 16 bits together.
    template <int32_t kMax, uint32_t kWords>
    static Int dot_unsigned(const Int* words, const int8_t* q) {
        constexpr uint32_t kTogether = 32767 / (2 * kMax * 128) < kWords ? 32767 / (2 * kMax * 128) : kWords;
        static_assert(kTogether >= 2 && kWords % kTogether == 0);
        Int sum = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (uint32_t first = 0; first < kWords; first += kTogether) {
            Int pairs = _mm256_maddubs_epi16(words[first], broadcast(q + size_t{4} * first));
#pragma GCC unroll 8
            for (uint32_t w = first + 1; w < first + kTogether; ++w) {
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(words[w], broadcast(q + size_t{4} * w)));
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
        return sum;
    }

    template <WeightType kType, ActivationKind kKind, uint32_t kWords>
    static Int dot(const Int* words, const int8_t* q) {
        if constexpr (kType == WeightType::kQ8_0) {
            return dot_signed<kKind, kWords>(words, q);
        } else {
            return dot_unsigned<Format<kType>::kMax, kWords>(words, q);
        }
    }
};

}  // namespace
}  // namespace driftwood::compute::avx2
