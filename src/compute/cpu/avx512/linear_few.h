// One token or a few, for types whose groups of 32 have a float scale each: too few to repay a slab (linear_slab.h),
// since most of the time goes into reading the weights. A group of sixteen rows is transposed in registers, meets up to
// eight tokens there, and is never stored. What the next group takes (loads and transposition) is spread between the
// tokens of this one: the products keep two of the processor's pipes busy, and the shuffles have others; its shuffles
// come before products that do not need them, so that nothing waits for them. Four tokens' sums grow side by side: each
// product waits for the one before it. The sixteen rows that follow are asked for meanwhile, line by line, in the order
// of memory.
//
// Beside what linear_groups.h asks for, a format has
//   stage(rows, stage, half, words)   makes `words` in three stages; what one leaves to the next is in `half`
#pragma once

#include "compute/cpu/avx512/linear_groups.h"

namespace driftwood::compute::avx512 {

inline constexpr uint32_t kTokensInRegisters = 8;
inline constexpr uint32_t kMaxFewGroups = 1024;  // of a row: so many starts are kept
inline constexpr uint32_t kStages = 3;
inline constexpr uint32_t kChains = 4;

namespace {  // each kernel file gets copies of its own

// A transposition half done.
struct Halfway {
    __m512i a[4];
    __m512i b[4];
};

template <uint32_t Tokens>
using FewStarts = Starts<Tokens, kMaxFewGroups + kLanes>;  // rows of the table a line apart in the first-level cache

// One group of sixteen rows and Tokens tokens: sum = fma(scale, I · 2^e, sum), while the next group is made.
template <class Format, uint32_t Tokens, class Rows>
[[gnu::always_inline]] inline void add_group(const Rows& next_rows, const int8_t* q, size_t cols,
                                             const FewStarts<Tokens>& starts, uint32_t g, __m512 scale,
                                             __m512i words[kWords], __m512 sum[Tokens]) {
    __m512i next[kWords];
    Halfway half;
    Format::stage(next_rows, 0, half, next);
#pragma GCC unroll 8
    for (uint32_t first = 0; first < Tokens; first += kChains) {
        const uint32_t count = Tokens - first < kChains ? Tokens - first : kChains;
        if (first + count == Tokens) Format::stage(next_rows, 1, half, next);
        __m512i total[kChains];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; ++i) total[i] = _mm512_set1_epi32(starts.start[first + i][g]);
#pragma GCC unroll 8
        for (uint32_t d = 0; d < kWords; ++d) {
#pragma GCC unroll 4
            for (uint32_t i = 0; i < count; ++i) {
                const __m512i x = broadcast_word(q + (first + i) * cols + size_t{4} * d);
                total[i] = _mm512_dpbusd_epi32(total[i], words[d], x);
            }
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; ++i) {
            const __m512 offset = _mm512_castsi512_ps(_mm512_set1_epi32(starts.offset[first + i][g]));
            const __m512 product = _mm512_sub_ps(_mm512_castsi512_ps(total[i]), offset);
            sum[first + i] = _mm512_fmadd_ps(scale, product, sum[first + i]);
        }
    }
    Format::stage(next_rows, 2, half, next);
#pragma GCC unroll 8
    for (uint32_t d = 0; d < kWords; ++d) words[d] = next[d];
}

// Sixteen rows from r on.
template <class Format, uint32_t Tokens, class Rows>
void few_tokens_of(const Linear& args, uint32_t token, const FewStarts<Tokens>& starts, uint32_t r, __mmask16 mask,
                   Rows rows) {
    const uint32_t groups = args.cols / kGroup;
    const size_t cols = args.cols;
    const size_t super_blocks = (cols + kSuperBlock - 1) / kSuperBlock;
    const int8_t* q = args.x.high + token * cols;
    const uint8_t* following = args.weights + size_t{r + kLanes} * args.row_bytes;
    __m512i words[kWords];
    Halfway half;
#pragma GCC unroll 3
    for (uint32_t stage = 0; stage < kStages; ++stage) Format::stage(rows, stage, half, words);
    __m512 acc[Tokens];
#pragma GCC unroll 8
    for (uint32_t t = 0; t < Tokens; ++t) acc[t] = _mm512_setzero_ps();
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        __m512 sum[Tokens];
#pragma GCC unroll 8
        for (uint32_t t = 0; t < Tokens; ++t) sum[t] = _mm512_setzero_ps();
        for (uint32_t g = begin; g < end; ++g, q += kGroup) {
            prefetch<Format::kBlockBytes * kLanes>(following);
            following += Format::kBlockBytes * kLanes;
            const __m512 scale = load_scales(rows);
            // The last group is made once more, and not used.
            rows.advance(g + 1 < groups ? Format::kBlockBytes : 0);
            add_group<Format, Tokens>(rows, q, cols, starts, g, scale, words, sum);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < Tokens; ++t) {
            if constexpr (Format::kKind == ActivationKind::kA32P) {
                acc[t] = _mm512_add_ps(acc[t], sum[t]);
            } else {
                const float scale = args.x.scale[(token + t) * super_blocks + begin / kGroupsPerSuperBlock];
                acc[t] = _mm512_fmadd_ps(sum[t], _mm512_set1_ps(scale), acc[t]);
            }
        }
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < Tokens; ++t) {
        _mm512_mask_storeu_ps(args.y + size_t{token + t} * args.y_stride + r, mask, acc[t]);
    }
}

template <class Format, uint32_t Tokens>
bool few_tokens_at(const Linear& args, uint32_t token, uint32_t row_begin, uint32_t row_end) {
    FewStarts<Tokens> starts;
    make_starts<Format>(args, token, 0, args.cols / kGroup, starts);
    if (starts.huge) return false;
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const uint8_t* first = args.weights + r * args.row_bytes;
        const __mmask16 mask = lanes_left(r, row_end);
        if (row_end - r >= kLanes) {
            few_tokens_of<Format, Tokens>(args, token, starts, r, mask, EvenRows(first, args.row_bytes));
        } else {
            few_tokens_of<Format, Tokens>(args, token, starts, r, mask, LastRows(first, args.row_bytes, row_end - r));
        }
    }
    return true;
}

// Up to kFewTokens tokens. False where it cannot (the scale of a group is huge): then nothing of y counts.
template <class Format>
bool few_tokens(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    if (args.cols / kGroup > kMaxFewGroups) return false;
    const auto at = [&](uint32_t token, uint32_t count) {
        switch (count) {
            case 1: return few_tokens_at<Format, 1>(args, token, row_begin, row_end);
            case 2: return few_tokens_at<Format, 2>(args, token, row_begin, row_end);
            case 3: return few_tokens_at<Format, 3>(args, token, row_begin, row_end);
            case 4: return few_tokens_at<Format, 4>(args, token, row_begin, row_end);
            case 5: return few_tokens_at<Format, 5>(args, token, row_begin, row_end);
            case 6: return few_tokens_at<Format, 6>(args, token, row_begin, row_end);
            case 7: return few_tokens_at<Format, 7>(args, token, row_begin, row_end);
            default: return few_tokens_at<Format, kTokensInRegisters>(args, token, row_begin, row_end);
        }
    };
    const uint32_t passes = (args.tokens + kTokensInRegisters - 1) / kTokensInRegisters;
    for (uint32_t pass = 0; pass < passes; ++pass) {  // as alike as they can be
        const uint32_t begin = args.tokens * pass / passes;
        if (!at(begin, args.tokens * (pass + 1) / passes - begin)) return false;
    }
    return true;
}

}  // namespace
}  // namespace driftwood::compute::avx512
