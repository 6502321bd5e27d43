// What AVX-512 brings to compute/cpu/weight_lanes.h for the tiles: 16 rows of a matrix, unpacked to the bytes that
// tiles multiply, with or without sign. Internal linkage (see cpu/README.md).
#pragma once

#include <immintrin.h>

#include "compute/cpu/weight_lanes.h"

namespace driftwood::compute::amx {

namespace {

template <bool kSigned>
struct LanesOf {
    static constexpr uint32_t kRows = 16;
    static constexpr bool kSignedBytes = kSigned;
    using Int = __m512i;
    using Float = __m512;
    using Rows = RowsOf<LanesOf>;

    static Int set(int32_t x) { return _mm512_set1_epi32(x); }
    static Int both(Int a, Int b) { return _mm512_and_si512(a, b); }
    static Int either(Int a, Int b) { return _mm512_or_si512(a, b); }
    static Int multiply(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
    static Int subtract_bytes(Int a, Int b) { return _mm512_sub_epi8(a, b); }
    static Int right(Int a, uint32_t n) { return _mm512_srli_epi32(a, n); }
    static Int left(Int a, uint32_t n) { return _mm512_slli_epi32(a, n); }
    static Int right_signed(Int a, uint32_t n) { return _mm512_srai_epi32(a, n); }
    static Float low_half(Int words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }

    static Int load_word(const Rows& rows, size_t at) {
        const Int offset = _mm512_set1_epi64(static_cast<int64_t>(at));
        const Int front = _mm512_add_epi64(_mm512_loadu_si512(rows.row), offset);
        const Int back = _mm512_add_epi64(_mm512_loadu_si512(rows.row + 8), offset);
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_i64gather_epi32(front, nullptr, 1)),
                                  _mm512_i64gather_epi32(back, nullptr, 1), 1);
    }

    // Rows i, i + 4, i + 8 and i + 12 side by side, then 4 x 4 words transposed in each quarter.
    static void load_words(const Rows& rows, size_t at, Int out[4]) {
        const auto sixteen = [&](uint32_t row) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.row[row] + at));
        };
        Int in[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            in[i] = _mm512_castsi128_si512(sixteen(i));
            in[i] = _mm512_inserti32x4(in[i], sixteen(i + 4), 1);
            in[i] = _mm512_inserti32x4(in[i], sixteen(i + 8), 2);
            in[i] = _mm512_inserti32x4(in[i], sixteen(i + 12), 3);
        }
        const Int a = _mm512_unpacklo_epi32(in[0], in[1]);
        const Int b = _mm512_unpacklo_epi32(in[2], in[3]);
        const Int c = _mm512_unpackhi_epi32(in[0], in[1]);
        const Int d = _mm512_unpackhi_epi32(in[2], in[3]);
        out[0] = _mm512_unpacklo_epi64(a, b);
        out[1] = _mm512_unpackhi_epi64(a, b);
        out[2] = _mm512_unpacklo_epi64(c, d);
        out[3] = _mm512_unpackhi_epi64(c, d);
    }
};
using Lanes = LanesOf<true>;

}  // namespace
}  // namespace driftwood::compute::amx
