// Q4_K and a few tokens: as linear_few.h has it, two groups of sixteen rows at a time, since they share their bytes.
#pragma once

#include "compute/cpu/avx512/linear_q4_k.h"

namespace driftwood::compute::avx512 {

namespace {  // each kernel file gets copies of its own

constexpr uint32_t kPairBytes = 32;  // two groups of a row, in the low and high bits
constexpr uint32_t kPairs = kGroupsPerSuperBlock / 2;
constexpr uint32_t kTokensInRegisters = 8;
constexpr uint32_t kChains = 4;          // tokens whose sums grow side by side
constexpr uint32_t kMaxFewBlocks = 128;  // of a row: so many sums are kept

// Eight rows of a pair of groups, transposed.
template <class Rows>
[[gnu::always_inline]] inline void transpose_eight(const Rows& rows, uint32_t first, __m512i out[4]) {
    __m512i in[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) in[i] = load_two(rows[first + i], rows[first + i + 4]);
    transpose_lanes(in, out);
}

// total += words · the four values at q, in every lane. With the intrinsic the compiler first loads each four into a
// register of their own, and has too few of them.
[[gnu::always_inline]] inline void add_products(__m512i& total, __m512i words, const int8_t* q) {
    using Four [[gnu::may_alias]] = int32_t;
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(total) : "v"(words), "m"(*reinterpret_cast<const Four*>(q)));
}

// a += scale · I of one group for all tokens. Meanwhile (kMakeNext) the next pair of groups is made.
template <bool kMakeNext, uint32_t Tokens, class Rows>
[[gnu::always_inline]] inline void add_group(const Rows& next_rows, const int8_t* q, size_t cols, __m512i scale,
                                             const __m512i words[kWords], __m512i a[Tokens], __m512i next[kWords]) {
    __m512i low[4];
    __m512i high[4];
    if constexpr (kMakeNext) transpose_eight(next_rows, 0, low);
#pragma GCC unroll 8
    for (uint32_t first = 0; first < Tokens; first += kChains) {
        const uint32_t count = Tokens - first < kChains ? Tokens - first : kChains;
        if constexpr (kMakeNext) {
            if (first + count == Tokens) transpose_eight(next_rows, 8, high);
        }
        __m512i total[kChains];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; ++i) total[i] = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (uint32_t d = 0; d < kWords; ++d) {
#pragma GCC unroll 4
            for (uint32_t i = 0; i < count; ++i) {
                add_products(total[i], words[d], q + (first + i) * cols + size_t{4} * d);
            }
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; ++i) {
            a[first + i] = _mm512_add_epi32(a[first + i], _mm512_mullo_epi32(total[i], scale));
        }
    }
    if constexpr (kMakeNext) merge_halves(low, high, next);
}

template <uint32_t Tokens>
struct FewSums {
    Sums of[kMaxFewBlocks][Tokens];
};

// Sixteen rows from r on.
template <uint32_t Tokens, class Rows>
void few_tokens_of(const Linear& args, uint32_t token, const FewSums<Tokens>& sums, uint32_t r, __mmask16 mask,
                   Rows rows) {
    const uint32_t blocks = args.cols / kSuperBlock;
    const size_t cols = args.cols;
    const int8_t* q = args.x.high + token * cols;
    const uint8_t* following = args.weights + size_t{r + kLanes} * args.row_bytes;
    rows.advance(kHeaderBytes);
    __m512i both[kWords];
    __m512i low[4];
    __m512i high[4];
    transpose_eight(rows, 0, low);
    transpose_eight(rows, 8, high);
    merge_halves(low, high, both);
    __m512 acc[Tokens];
#pragma GCC unroll 8
    for (uint32_t t = 0; t < Tokens; ++t) acc[t] = _mm512_setzero_ps();
    for (uint32_t block = 0; block < blocks; ++block) {
        const Header header = load_header(rows, kHeaderBytes);
        alignas(64) uint8_t scales[2][kLanes * 4];
        _mm512_store_si512(scales[0], header.scale[0]);
        _mm512_store_si512(scales[1], header.scale[1]);
        __m512i a[Tokens];
#pragma GCC unroll 8
        for (uint32_t t = 0; t < Tokens; ++t) a[t] = _mm512_setzero_si512();
        for (uint32_t p = 0; p < kPairs; ++p, q += size_t{2} * kGroup) {
            prefetch<kBlockBytes / kPairs * kLanes>(following);
            following += size_t{kBlockBytes} / kPairs * kLanes;
            const __m512i four =
                _mm512_srl_epi32(_mm512_load_si512(scales[p / 2]), _mm_cvtsi32_si128(static_cast<int>(16 * (p % 2))));
            const __m512i byte = _mm512_set1_epi32(255);
            __m512i words[kWords];
#pragma GCC unroll 8
            for (uint32_t d = 0; d < kWords; ++d) words[d] = low_half(both[d]);
            add_group<false, Tokens>(rows, q, cols, _mm512_and_si512(four, byte), words, a, both);
#pragma GCC unroll 8
            for (uint32_t d = 0; d < kWords; ++d) words[d] = high_half(both[d]);
            // The last pair is made once more, and not used.
            const bool last = p + 1 == kPairs;
            rows.advance(!last ? kPairBytes : block + 1 < blocks ? kPairBytes + kHeaderBytes : 0);
            add_group<true, Tokens>(rows, q + kGroup, cols, _mm512_and_si512(_mm512_srli_epi32(four, 8), byte), words,
                                    a, both);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < Tokens; ++t) {
            const __m512i b = minima(header.min, sums.of[block][t]);
            const __m512 scale = _mm512_set1_ps(args.x.scale[size_t{token + t} * blocks + block]);
            acc[t] = _mm512_fmadd_ps(block_sum(header.d, a[t], header.dmin, b), scale, acc[t]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < Tokens; ++t) {
        _mm512_mask_storeu_ps(args.y + size_t{token + t} * args.y_stride + r, mask, acc[t]);
    }
}

template <uint32_t Tokens>
void few_tokens_at(const Linear& args, uint32_t token, uint32_t row_begin, uint32_t row_end) {
    const uint32_t blocks = args.cols / kSuperBlock;
    FewSums<Tokens> sums;
    for (uint32_t t = 0; t < Tokens; ++t) {
        for (uint32_t block = 0; block < blocks; ++block) {
            const size_t at = size_t{token + t} * blocks + block;
            sums.of[block][t] = split_sums(args.x.high_sum + at * (kSuperBlock / kSumGroup));
        }
    }
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const uint8_t* first = args.weights + r * args.row_bytes;
        const __mmask16 mask = lanes_left(r, row_end);
        if (row_end - r >= kLanes) {
            few_tokens_of<Tokens>(args, token, sums, r, mask, EvenRows(first, args.row_bytes));
        } else {
            few_tokens_of<Tokens>(args, token, sums, r, mask, LastRows(first, args.row_bytes, row_end - r));
        }
    }
}

void few_tokens(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    const auto at = [&](uint32_t token, uint32_t count) {
        switch (count) {
            case 1: return few_tokens_at<1>(args, token, row_begin, row_end);
            case 2: return few_tokens_at<2>(args, token, row_begin, row_end);
            case 3: return few_tokens_at<3>(args, token, row_begin, row_end);
            case 4: return few_tokens_at<4>(args, token, row_begin, row_end);
            case 5: return few_tokens_at<5>(args, token, row_begin, row_end);
            case 6: return few_tokens_at<6>(args, token, row_begin, row_end);
            case 7: return few_tokens_at<7>(args, token, row_begin, row_end);
            default: return few_tokens_at<kTokensInRegisters>(args, token, row_begin, row_end);
        }
    };
    const uint32_t passes = (args.tokens + kTokensInRegisters - 1) / kTokensInRegisters;
    for (uint32_t pass = 0; pass < passes; ++pass) {  // as alike as they can be
        const uint32_t begin = args.tokens * pass / passes;
        at(begin, args.tokens * (pass + 1) / passes - begin);
    }
}

}  // namespace
}  // namespace driftwood::compute::avx512
