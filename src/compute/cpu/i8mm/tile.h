// Four tokens by four rows of a matrix: their integer sums by SMMLA, which multiplies 8 values of two tokens by 8
// values of two rows. Internal linkage (see cpu/README.md).
#pragma once

#include "compute/cpu/neon/weight_lanes.h"

namespace driftwood::compute::i8mm {

inline constexpr uint32_t kTileTokens = 4;

namespace {  // each kernel file gets copies of its own

using neon::Isa;
using Int = Isa::Int;
using Float = Isa::Float;

// From a register per word of four rows, as weight_lanes.h has them, to a register per 8 values of two rows: of rows 0
// and 1 in the place of the even word, of rows 2 and 3 in that of the odd one.
[[maybe_unused]] inline void pair_rows(Int* words, uint32_t count) {
    for (uint32_t w = 0; w < count; w += 2) {
        const Int even = words[w];
        words[w] = vzip1q_s32(even, words[w + 1]);
        words[w + 1] = vzip2q_s32(even, words[w + 1]);
    }
}

// Four tokens from `first` on. Those past the end repeat the last one.
struct TileTokens {
    uint32_t at[kTileTokens];

    TileTokens(uint32_t first, uint32_t count) {
        for (uint32_t t = 0; t < kTileTokens; ++t) at[t] = first + (t < count ? t : count - 1);
    }
};

// Their rows in one plane of the activations.
struct TilePlane {
    const int8_t* q[kTileTokens];

    TilePlane(const int8_t* plane, const Linear& args, const TileTokens& tokens) {
        for (uint32_t t = 0; t < kTileTokens; ++t) q[t] = plane + size_t{tokens.at[t]} * args.cols;
    }
};

// sum[t]: the products of kWords words of weights, paired as above, by as many values of token t from `at` on; a lane
// per row. Exact: an instruction's products of signed bytes are added up in 32 bits. Loops over constants are unrolled
// so that sums stay in registers.
template <uint32_t kWords>
[[maybe_unused]] inline void add_tile(const Int* pairs, const TilePlane& plane, size_t at, Int part[2][2]) {
#pragma GCC unroll 2
    for (uint32_t w = 0; w < kWords; w += 4, at += 16) {
        int64x2_t q[kTileTokens];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < kTileTokens; ++t) q[t] = vreinterpretq_s64_s8(vld1q_s8(plane.q[t] + at));
#pragma GCC unroll 2
        for (uint32_t two = 0; two < 2; ++two) {
            const int8x16_t front = vreinterpretq_s8_s64(vzip1q_s64(q[2 * two], q[2 * two + 1]));
            const int8x16_t back = vreinterpretq_s8_s64(vzip2q_s64(q[2 * two], q[2 * two + 1]));
#pragma GCC unroll 2
            for (uint32_t rows = 0; rows < 2; ++rows) {
                part[two][rows] = vmmlaq_s32(part[two][rows], front, vreinterpretq_s8_s32(pairs[w + rows]));
                part[two][rows] = vmmlaq_s32(part[two][rows], back, vreinterpretq_s8_s32(pairs[w + 2 + rows]));
            }
        }
    }
}

// From [two tokens][two rows] to a lane per row.
[[maybe_unused]] inline void by_token(const Int part[2][2], Int sum[kTileTokens]) {
#pragma GCC unroll 2
    for (uint32_t two = 0; two < 2; ++two) {
        const int64x2_t front = vreinterpretq_s64_s32(part[two][0]);
        const int64x2_t back = vreinterpretq_s64_s32(part[two][1]);
        sum[2 * two] = vreinterpretq_s32_s64(vzip1q_s64(front, back));
        sum[2 * two + 1] = vreinterpretq_s32_s64(vzip2q_s64(front, back));
    }
}

// Sums of tokens past the end, which a tile computes too and nobody reads.
static_assert(kMaxTokens % kTileTokens == 0);
[[maybe_unused]] inline void begin_past_the_end(Float* acc, uint32_t tokens) {
    for (uint32_t i = tokens; i % kTileTokens != 0; ++i) acc[i] = vdupq_n_f32(0.0F);
}

template <uint32_t kWords>
[[maybe_unused]] inline void dot_tile(const Int* pairs, const TilePlane& plane, size_t at, Int sum[kTileTokens]) {
    const Int zero = vdupq_n_s32(0);
    Int part[2][2] = {{zero, zero}, {zero, zero}};
    add_tile<kWords>(pairs, plane, at, part);
    by_token(part, sum);
}

}  // namespace
}  // namespace driftwood::compute::i8mm
