// Rule 3 for W16 weights and A16 activations, for many tokens. A weight is two digits with sign, as an activation is
// (|n| <= kMaxA16), so four products of 8-bit numbers give both sums of a super-block. Every sum of products of digits
// stays below 2^23, and what is made of them is rule 3's A, exact in 32 bits.
#include "compute/cpu/i8mm/i8mm.h"
#include "compute/cpu/i8mm/tile.h"

namespace driftwood::compute::i8mm {

namespace {

// The digits of one super-block of four rows, in pairs of rows as dot_tile takes them.
struct Digits {
    Int high[kSuperBlock / 4];
    Int low[kSuperBlock / 4];
    Float scale;
};

// A block of `count` values, a multiple of 32.
void load_digits(const RowsOf<Isa>& rows, size_t index, uint32_t count, Digits& out) {
    const size_t at = index * sizeof(BlockW16);
    for (uint32_t i = 0; i < count; i += 8) {
        for (uint32_t two = 0; two < 2; ++two) {
            const auto eight = [&](uint32_t row) {
                const uint8_t* n = rows.row[2 * two + row] + at + offsetof(BlockW16, n) + size_t{2} * i;
                return vreinterpretq_s16_u8(vld1q_u8(n));
            };
            const int16x8_t front = eight(0);
            const int16x8_t back = eight(1);
            const int16x8_t half = vdupq_n_s16(128);
            out.low[i / 4 + two] = vreinterpretq_s32_s8(vcombine_s8(vmovn_s16(front), vmovn_s16(back)));
            out.high[i / 4 + two] = vreinterpretq_s32_s8(vcombine_s8(vaddhn_s16(front, half), vaddhn_s16(back, half)));
        }
    }
    out.scale = vreinterpretq_f32_s32(Isa::load_word(rows, at));
}

// A's part of one digit of four tokens' activations.
void digit_sums(const Digits& weights, uint32_t count, const TilePlane& plane, size_t col, Float out[kTileTokens]) {
    const Int zero = vdupq_n_s32(0);
    Int high[2][2] = {{zero, zero}, {zero, zero}};
    Int low[2][2] = {{zero, zero}, {zero, zero}};
    for (uint32_t i = 0; i < count; i += 16) {
        add_tile<4>(weights.high + i / 4, plane, col + i, high);
        add_tile<4>(weights.low + i / 4, plane, col + i, low);
    }
    Int high_sum[kTileTokens];
    Int low_sum[kTileTokens];
    by_token(high, high_sum);
    by_token(low, low_sum);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kTileTokens; ++i) {
        out[i] = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high_sum[i], 8), low_sum[i]));
    }
}

struct W16Tiles {
    static void rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, Float* acc) {
        const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
        Digits weights;
        begin_past_the_end(acc, tokens);
        for (size_t b = 0; b < blocks; ++b) {
            const size_t col = b * kSuperBlock;
            const auto count = static_cast<uint32_t>(args.cols - col < kSuperBlock ? args.cols - col : kSuperBlock);
            load_digits(rows, b, count, weights);
            for (uint32_t i = 0; i < tokens; i += kTileTokens) {
                const TileTokens tile(first_token + i, tokens - i);
                Float high[kTileTokens];
                Float low[kTileTokens];
                digit_sums(weights, count, TilePlane(args.x.high, args, tile), col, high);
                digit_sums(weights, count, TilePlane(args.x.low, args, tile), col, low);
#pragma GCC unroll 4
                for (uint32_t t = 0; t < kTileTokens; ++t) {
                    const Float f = vfmaq_n_f32(low[t], high[t], 256.0F);
                    acc[i + t] =
                        vfmaq_n_f32(acc[i + t], vmulq_f32(weights.scale, f), args.x.scale[tile.at[t] * blocks + b]);
                }
            }
        }
    }
};

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    linear_layer<Isa, W16Tiles>(args, row_begin, row_end);
}

}  // namespace driftwood::compute::i8mm
