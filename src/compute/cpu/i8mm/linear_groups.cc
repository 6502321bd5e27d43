// Rule 3 for weights whose groups of 32 have a float scale each (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1), for many tokens: four
// tokens' float chains at a time, a row per lane, in the contract's order.
#include "compute/cpu/i8mm/i8mm.h"
#include "compute/cpu/i8mm/tile.h"

namespace driftwood::compute::i8mm {

namespace {

template <class, WeightType kType, ActivationKind kKind>
struct GroupTiles {
    using Group = GroupOf<Isa>;

    // The chains of four tokens over the `count` groups of a super-block, into acc.
    static void add_groups(const Linear& args, const TileTokens& tokens, uint32_t first, uint32_t count,
                           const Group* groups, Float acc[kTileTokens]) {
        const TilePlane high(args.x.high, args, tokens);
        const TilePlane low(kKind == ActivationKind::kA16 ? args.x.low : args.x.high, args, tokens);
        const Float zero = vdupq_n_f32(0.0F);
        Float t[kTileTokens] = {zero, zero, zero, zero};
        for (uint32_t j = 0; j < count; ++j) {
            const size_t col = size_t{first + j} * kGroup;
            Int sum[kTileTokens];
            dot_tile<kGroupWords>(groups[j].words, high, col, sum);
            if constexpr (kKind == ActivationKind::kA16) {
                Int low_sum[kTileTokens];
                dot_tile<kGroupWords>(groups[j].words, low, col, low_sum);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < kTileTokens; ++i) sum[i] = vaddq_s32(vshlq_n_s32(sum[i], 8), low_sum[i]);
            }
#pragma GCC unroll 4
            for (uint32_t i = 0; i < kTileTokens; ++i) {
                const size_t at = size_t{tokens.at[i]} * args.cols + col;
                Float f = vcvtq_f32_s32(sum[i]);
                if constexpr (kKind == ActivationKind::kA32P) f = vmulq_n_f32(f, args.x.scale[at / kGroup]);
                t[i] = vfmaq_f32(t[i], groups[j].d, f);
                if constexpr (Format<kType>::kHasMin) {
                    const auto s = static_cast<float>(group_sum<kKind>(args, at / kSumGroup));
                    t[i] = vfmaq_n_f32(t[i], groups[j].m, s);
                }
            }
        }
        const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kTileTokens; ++i) {
            if constexpr (kKind == ActivationKind::kA32P) {
                acc[i] = vaddq_f32(acc[i], t[i]);
            } else {
                acc[i] = vfmaq_n_f32(acc[i], t[i], args.x.scale[tokens.at[i] * blocks + first / kBlockGroups]);
            }
        }
    }

    static void rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, Float* acc) {
        const uint32_t all = args.cols / kGroup;
        Group groups[kBlockGroups];
        begin_past_the_end(acc, tokens);
        for (uint32_t first = 0; first < all; first += kBlockGroups) {
            const uint32_t count = all - first < kBlockGroups ? all - first : kBlockGroups;
            for (uint32_t j = 0; j < count; ++j) {
                Format<kType>::load(rows, first + j, groups[j]);
                pair_rows(groups[j].words, kGroupWords);
            }
            for (uint32_t i = 0; i < tokens; i += kTileTokens) {
                add_groups(args, TileTokens(first_token + i, tokens - i), first, count, groups, acc + i);
            }
        }
    }
};

}  // namespace

LinearKernel groups_kernel(WeightType type, ActivationKind kind) { return groups_of<Isa, GroupTiles>(type, kind); }

}  // namespace driftwood::compute::i8mm
