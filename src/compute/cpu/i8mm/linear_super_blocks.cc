// Rule 3 for weights whose super-blocks have integer scales (Q4_K, Q5_K, Q6_K, Q4S), for many tokens: the sums of four
// tokens at a time, a row per lane.
#include "compute/cpu/i8mm/i8mm.h"
#include "compute/cpu/i8mm/tile.h"

namespace driftwood::compute::i8mm {

namespace {

// A of four tokens, or one digit's part of it.
template <uint32_t kParts>
void scaled_sums(const TilePlane& plane, size_t col, const SuperBlockOf<Isa, kParts>& block, Float out[kTileTokens]) {
    constexpr uint32_t kWords = kSuperBlock / 4 / kParts;
    const Int zero = vdupq_n_s32(0);
    Int total[kTileTokens] = {zero, zero, zero, zero};
    for (uint32_t part = 0; part < kParts; ++part) {
        Int sum[kTileTokens];
        dot_tile<kWords>(block.words + part * kWords, plane, col + size_t{4} * kWords * part, sum);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kTileTokens; ++i) total[i] = vmlaq_s32(total[i], block.scale[part], sum[i]);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kTileTokens; ++i) out[i] = vcvtq_f32_s32(total[i]);
}

template <class, WeightType kType, ActivationKind kKind>
struct SuperBlockTiles {
    static constexpr uint32_t kParts = Format<kType>::kParts;
    using Block = SuperBlockOf<Isa, kParts>;

    // B of one token.
    static Float minima(const Linear& args, size_t at, const Block& block) {
        Int total = vdupq_n_s32(0);
        for (uint32_t j = 0; j < kBlockGroups; ++j) {
            const int32_t s = group_sum<kKind>(args, at / kSumGroup + size_t{kSumsPerGroup} * j);
            total = vmlaq_n_s32(total, block.min[j], s);
        }
        return vcvtq_f32_s32(total);
    }

    // The chains of four tokens over super-block `index`, into acc.
    static void add_block(const Linear& args, const TileTokens& tokens, uint32_t index, const Block& block,
                          Float acc[kTileTokens]) {
        const size_t col = size_t{index} * kSuperBlock;
        Float f[kTileTokens];
        scaled_sums(TilePlane(args.x.high, args, tokens), col, block, f);
        if constexpr (kKind == ActivationKind::kA16) {
            Float low[kTileTokens];
            scaled_sums(TilePlane(args.x.low, args, tokens), col, block, low);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < kTileTokens; ++i) f[i] = vfmaq_n_f32(low[i], f[i], 256.0F);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kTileTokens; ++i) {
            const size_t at = size_t{tokens.at[i]} * args.cols + col;
            Float t;
            if constexpr (Format<kType>::kHasMin) {
                t = Isa::fms(block.d, f[i], vmulq_f32(block.dmin, minima(args, at, block)));
            } else {
                t = vmulq_f32(block.d, f[i]);
            }
            acc[i] = vfmaq_n_f32(acc[i], t, args.x.scale[at / kSuperBlock]);
        }
    }

    static void rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, Float* acc) {
        Block block;
        begin_past_the_end(acc, tokens);
        for (uint32_t b = 0; b < args.cols / kSuperBlock; ++b) {
            Format<kType>::load(rows, b, block);
            pair_rows(block.words, kSuperBlock / 4);
            for (uint32_t i = 0; i < tokens; i += kTileTokens) {
                add_block(args, TileTokens(first_token + i, tokens - i), b, block, acc + i);
            }
        }
    }
};

}  // namespace

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    return super_blocks_of<Isa, SuperBlockTiles>(type, kind);
}

}  // namespace driftwood::compute::i8mm
