// Rule 3 for Q4_K: super-blocks of 256 with integer scales and minima, A = Σ scale · I and B = Σ min · S in integers.
// What its ways through a matrix (linear_slab.h) share.
#pragma once

#include "compute/cpu/avx512/linear_slab.h"
#include "compute/cpu/avx512/sixteen_rows.h"

namespace driftwood::compute::avx512 {

namespace {  // each kernel file gets copies of its own

constexpr uint32_t kHeaderBytes = 16;  // d, dmin, scales
constexpr uint32_t kBlockBytes = sizeof(BlockQ4_K);

// The headers of sixteen rows, a row in each lane; bytes of groups 0..3 and 4..7.
struct Header {
    __m512 d;
    __m512 dmin;
    __m512i scale[2];
    __m512i min[2];
};

[[maybe_unused]] Header unpack_header(const __m512i every_fourth[4]) {
    __m512i word[4];  // d and dmin, then the 12 bytes
    transpose_lanes(every_fourth, word);
    const __m512i six = _mm512_set1_epi32(0x3F3F3F3F);
    const __m512i four = _mm512_set1_epi32(0x0F0F0F0F);
    const __m512i top = _mm512_set1_epi32(0x30303030);
    const auto halves = [](__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); };
    const auto with_top = [&](__m512i low, __m512i from) {
        return _mm512_or_si512(_mm512_and_si512(low, four), _mm512_and_si512(_mm512_srli_epi32(from, 2), top));
    };
    return {.d = halves(word[0]),
            .dmin = halves(_mm512_srli_epi32(word[0], 16)),
            .scale = {_mm512_and_si512(word[1], six), with_top(word[3], word[1])},
            .min = {_mm512_and_si512(word[2], six), with_top(_mm512_srli_epi32(word[3], 4), word[2])}};
}

// The one `before` bytes before where the rows are.
template <class Rows>
[[gnu::always_inline]] inline Header load_header(const Rows& rows, size_t before) {
    __m512i in[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) {
        in[i] = load_four(rows[i] - before, rows[i + 4] - before, rows[i + 8] - before, rows[i + 12] - before);
    }
    return unpack_header(in);
}

// The sums of a super-block's groups as 64 · high + low, four signed bytes to a word.
struct Sums {
    int32_t low[2];
    int32_t high[2];
};

[[maybe_unused]] Sums split_sums(const int32_t* sums) {
    const __m256i whole = group_sums(sums, kGroupsPerSuperBlock);
    Sums out;
    const auto store = [](int32_t* to, __m256i words) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_cvtepi32_epi8(words));
    };
    store(out.low, _mm256_and_si256(whole, _mm256_set1_epi32(63)));
    store(out.high, _mm256_srai_epi32(whole, 6));
    return out;
}

// B of sixteen rows.
inline __m512i minima(const __m512i* min, const Sums& sums) {
    __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), min[0], _mm512_set1_epi32(sums.high[0]));
    high = _mm512_dpbusd_epi32(high, min[1], _mm512_set1_epi32(sums.high[1]));
    __m512i all = _mm512_dpbusd_epi32(_mm512_slli_epi32(high, 6), min[0], _mm512_set1_epi32(sums.low[0]));
    return _mm512_dpbusd_epi32(all, min[1], _mm512_set1_epi32(sums.low[1]));
}

// t = fma(d, float(A), −(dmin · float(B))).
inline __m512 block_sum(__m512 d, __m512i a, __m512 dmin, __m512i b) {
    return _mm512_fmsub_ps(d, _mm512_cvtepi32_ps(a), _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(b)));
}

__m512i low_half(__m512i bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
__m512i high_half(__m512i bytes) { return low_half(_mm512_srli_epi16(bytes, 4)); }

}  // namespace
}  // namespace driftwood::compute::avx512
