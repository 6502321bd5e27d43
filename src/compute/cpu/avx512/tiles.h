// Pieces of the linear layers: sixteen rows of a matrix as sixteen lanes, so that each lane runs its row's float chain
// in the contract's order. Bytes of the rows are transposed in registers: word k of sixteen rows stands in one
// register, and VPDPBUSD multiplies it by the activations' word k, broadcast. It wants one side unsigned, so weights
// are unsigned integers here, and what they are too large by (Format::kShift) times the activations' sum is taken off
// again; all of it is exact in 32 bits. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "compute/constants.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/kernels.h"

namespace driftwood::compute::avx512 {

inline constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
inline constexpr uint32_t kWords = kGroup / 4;  // of a group
inline constexpr uint32_t kMaxTokens = 64;      // tokens whose sums are kept while a super-block is in cache
inline constexpr uint32_t kTokensAtOnce = 4;    // tokens that share a register of weights

namespace {  // each kernel file gets copies of its own

// Where the 16 rows of a tile lie: byte offsets from the first. Rows past the end repeat the last one.
struct TileRows {
    const uint8_t* first;
    uint32_t offset[kLanes];
};

[[maybe_unused]] inline TileRows tile_rows(const Linear& args, uint32_t first, uint32_t count) {
    TileRows rows{.first = args.weights + first * args.row_bytes, .offset = {}};
    for (uint32_t i = 0; i < kLanes; ++i) {
        rows.offset[i] = static_cast<uint32_t>((i < count ? i : count - 1) * args.row_bytes);
    }
    return rows;
}

// words[k]: 32-bit word k of the 16 bytes at `offset` of each row.
[[maybe_unused]] inline void load_words(const TileRows& rows, size_t offset, __m512i words[4]) {
    const uint8_t* at = rows.first + offset;
    const auto load = [&](uint32_t row) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + rows.offset[row]));
    };
    __m512i in[4];  // in[i]: rows i, 4 + i, 8 + i, 12 + i
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) {
        in[i] = _mm512_castsi128_si512(load(i));
        in[i] = _mm512_inserti32x4(in[i], load(i + 4), 1);
        in[i] = _mm512_inserti32x4(in[i], load(i + 8), 2);
        in[i] = _mm512_inserti32x4(in[i], load(i + 12), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i c = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    words[0] = _mm512_unpacklo_epi64(a, b);
    words[1] = _mm512_unpackhi_epi64(a, b);
    words[2] = _mm512_unpacklo_epi64(c, d);
    words[3] = _mm512_unpackhi_epi64(c, d);
}

// The 32-bit word at `offset` of each row.
[[maybe_unused]] inline __m512i load_word(const TileRows& rows, size_t offset) {
    return _mm512_i32gather_epi32(_mm512_loadu_si512(rows.offset), rows.first + offset, 1);
}

// The f16 in the low half of each word.
[[maybe_unused]] inline __m512 low_half(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
[[maybe_unused]] inline __m512 high_half(__m512i words) { return low_half(_mm512_srli_epi32(words, 16)); }

[[maybe_unused]] inline __m512i low_nibbles(__m512i words) { return _mm512_and_si512(words, _mm512_set1_epi8(15)); }
[[maybe_unused]] inline __m512i high_nibbles(__m512i words) { return low_nibbles(_mm512_srli_epi16(words, 4)); }

// `count` bits of each lane from bit `from` on.
[[maybe_unused]] inline __m512i bits_at(__m512i words, uint32_t from, uint32_t count) {
    return _mm512_and_si512(_mm512_srli_epi32(words, from), _mm512_set1_epi32((1 << count) - 1));
}

// One row of activations.
struct Token {
    const int8_t* high;
    const int8_t* low;
    const float* scale;
    const int32_t* high_sum;
    const int32_t* low_sum;
};

template <ActivationKind kKind>
[[maybe_unused]] Token token_at(const Linear& args, uint32_t token) {
    constexpr uint32_t kScaleGroup = kKind == ActivationKind::kA32P ? kGroup : kSuperBlock;
    const size_t at = size_t{token} * args.cols;
    const size_t scales = (size_t{args.cols} + kScaleGroup - 1) / kScaleGroup;
    const bool digits = kKind == ActivationKind::kA16;
    return {args.x.high + at, digits ? args.x.low + at : nullptr, args.x.scale + token * scales,
            args.x.high_sum + at / kSumGroup, digits ? args.x.low_sum + at / kSumGroup : nullptr};
}

// start + Σ words · q over kCount words.
template <uint32_t kCount>
[[maybe_unused]] inline __m512i dot(const __m512i* words, const int8_t* q, int32_t start) {
    __m512i even = _mm512_set1_epi32(start);
    __m512i odd = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (uint32_t d = 0; d < kCount; d += 2) {
        int32_t two[2];
        __builtin_memcpy(two, q + size_t{4} * d, sizeof(two));
        even = _mm512_dpbusd_epi32(even, words[d], _mm512_set1_epi32(two[0]));
        odd = _mm512_dpbusd_epi32(odd, words[d + 1], _mm512_set1_epi32(two[1]));
    }
    return _mm512_add_epi32(even, odd);
}

// Asks for `count` bytes that will be read soon. They need not exist.
[[maybe_unused]] inline void ask_for(const uint8_t* at, size_t count) {
    for (size_t i = 0; i < count; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
}

// Walks a linear layer: tiles of 16 rows, tokens kMaxTokens at a time, super-blocks ascending. The sixteen rows that
// follow are asked for meanwhile, in the order of memory: the processor's own prefetchers stop at every page and lose
// track at every row. For each super-block
// Work::load(rows, index of the super-block, its groups) fills a tile, and Work::add<T>(tile, index, groups, tokens,
// acc) adds it to the sums of T tokens.
template <class Work, ActivationKind kKind>
[[maybe_unused]] void walk(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    const uint32_t groups = args.cols / kGroup;
    const uint32_t super_blocks = (groups + kGroupsPerSuperBlock - 1) / kGroupsPerSuperBlock;
    const size_t share = args.row_bytes * kLanes / super_blocks;
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const uint8_t* next = args.weights + size_t{r + kLanes} * args.row_bytes;
        const __mmask16 mask = lanes_left(r, row_end);
        const TileRows rows = tile_rows(args, r, static_cast<uint32_t>(__builtin_popcount(mask)));
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t count = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            __m512 acc[kMaxTokens];
            Token x[kMaxTokens];
            for (uint32_t i = 0; i < count; ++i) {
                acc[i] = _mm512_setzero_ps();
                x[i] = token_at<kKind>(args, first + i);
            }
            for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
                const uint32_t here = groups - begin < kGroupsPerSuperBlock ? groups - begin : kGroupsPerSuperBlock;
                if (first == 0) ask_for(next + begin / kGroupsPerSuperBlock * share, share);
                typename Work::Tile tile;
                Work::load(rows, begin / kGroupsPerSuperBlock, here, tile);
                uint32_t i = 0;
                for (; i + kTokensAtOnce <= count; i += kTokensAtOnce) {
                    Work::template add<kTokensAtOnce>(tile, begin / kGroupsPerSuperBlock, here, x + i, acc + i);
                }
                for (; i < count; ++i) {
                    Work::template add<1>(tile, begin / kGroupsPerSuperBlock, here, x + i, acc + i);
                }
            }
            for (uint32_t i = 0; i < count; ++i) {
                _mm512_mask_storeu_ps(args.y + size_t{first + i} * args.y_stride + r, mask, acc[i]);
            }
        }
    }
}

}  // namespace
}  // namespace driftwood::compute::avx512
