// Weights of 16 rows of a matrix as a tile wants them: of each group of 32 values, 8 registers of signed bytes, of
// which register w holds values 4 w..4 w + 3 of the sixteen rows. Internal linkage (see cpu/README.md).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/formats.h"

namespace driftwood::compute::amx {

inline constexpr uint32_t kRows = 16;
inline constexpr uint32_t kWords = kGroup / 4;
inline constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;

namespace {  // each kernel file gets copies of its own

// Where the 16 rows lie: byte offsets from the first. Rows past the end repeat the last one.
struct Rows {
    const uint8_t* first;
    uint32_t offset[kRows];
};

[[maybe_unused]] inline Rows rows_at(const uint8_t* weights, size_t row_bytes, uint32_t first, uint32_t count) {
    Rows rows{.first = weights + first * row_bytes, .offset = {}};
    for (uint32_t i = 0; i < kRows; ++i) {
        rows.offset[i] = static_cast<uint32_t>((i < count ? i : count - 1) * row_bytes);
    }
    return rows;
}

// The 32-bit word at `at` of each row.
[[maybe_unused]] inline __m512i load_word(const Rows& rows, size_t at) {
    return _mm512_i32gather_epi32(_mm512_loadu_si512(rows.offset), rows.first + at, 1);
}

// The 16 bytes at `at` of each row, transposed: out[d] has word d of the sixteen rows.
[[maybe_unused]] inline void load_words(const Rows& rows, size_t at, __m512i out[4]) {
    const auto sixteen = [&](uint32_t row) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.first + rows.offset[row] + at));
    };
    __m512i in[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) {
        in[i] = _mm512_castsi128_si512(sixteen(i));
        in[i] = _mm512_inserti32x4(in[i], sixteen(i + 4), 1);
        in[i] = _mm512_inserti32x4(in[i], sixteen(i + 8), 2);
        in[i] = _mm512_inserti32x4(in[i], sixteen(i + 12), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i c = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, b);
    out[1] = _mm512_unpackhi_epi64(a, b);
    out[2] = _mm512_unpacklo_epi64(c, d);
    out[3] = _mm512_unpackhi_epi64(c, d);
}

// The f16 in the low and in the high half of each word.
[[maybe_unused]] inline __m512 low_half(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
[[maybe_unused]] inline __m512 high_half(__m512i words) { return low_half(_mm512_srli_epi32(words, 16)); }

[[maybe_unused]] inline __m512i low_nibbles(__m512i x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
[[maybe_unused]] inline __m512i high_nibbles(__m512i x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }

// 16 bytes per row whose low bits are the first 16 values and whose high bits the last 16.
[[maybe_unused]] inline void load_nibbles(const Rows& rows, size_t at, __m512i out[kWords]) {
    __m512i packed[4];
    load_words(rows, at, packed);
#pragma GCC unroll 4
    for (uint32_t d = 0; d < 4; ++d) {
        out[d] = low_nibbles(packed[d]);
        out[d + 4] = high_nibbles(packed[d]);
    }
}

// Adds 16 to the values of 32 whose bit is set in a word per row.
[[maybe_unused]] inline void add_fifth_bits(__m512i bits, __m512i out[kWords]) {
#pragma GCC unroll 8
    for (uint32_t w = 0; w < kWords; ++w) {
        const __m512i four = _mm512_and_si512(_mm512_srli_epi32(bits, 4 * w), _mm512_set1_epi32(15));
        // Bit k of four goes to bit 0 of byte k: the factor's bits are 7 apart.
        const __m512i spread =
            _mm512_and_si512(_mm512_mullo_epi32(four, _mm512_set1_epi32(0x00204081)), _mm512_set1_epi32(0x01010101));
        out[w] = _mm512_or_si512(out[w], _mm512_slli_epi32(spread, 4));
    }
}

[[maybe_unused]] inline void subtract(int8_t offset, __m512i out[kWords]) {
#pragma GCC unroll 8
    for (uint32_t w = 0; w < kWords; ++w) out[w] = _mm512_sub_epi8(out[w], _mm512_set1_epi8(offset));
}

}  // namespace
}  // namespace driftwood::compute::amx
