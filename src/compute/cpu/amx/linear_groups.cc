// Rule 3 for weights whose groups of 32 have a float scale each (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1), for many tokens.
//
// A tile multiplies 16 tokens by 16 rows of the matrix over one group. The sums of a super-block's eight groups are
// stored one after another; then each token runs its float chains, a row per lane, over them in the contract's order.
// Weights are unpacked once for all tokens of the call. Few tokens are the AVX-512 kernels' work.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/block.h"

namespace driftwood::compute::amx {

namespace {

using Sums = PartSums<kBlockGroups>;
using Group = GroupOf<Isa>;

// The chains of one token over a super-block, into acc.
template <WeightType kType, ActivationKind kKind>
__m512 add_block(const Linear& args, uint32_t token, uint32_t first, const Group* groups, uint32_t count,
                 const Sums& high, const Sums& low, uint32_t row, __m512 acc) {
    const size_t all = args.cols / kGroup;
    __m512 t = _mm512_setzero_ps();
    for (uint32_t j = 0; j < count; ++j) {
        __m512i sum = _mm512_load_si512(high.of[j][row]);
        if constexpr (kKind == ActivationKind::kA16) {
            sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8), _mm512_load_si512(low.of[j][row]));
        }
        __m512 f = _mm512_cvtepi32_ps(sum);
        if constexpr (kKind == ActivationKind::kA32P) {
            f = _mm512_mul_ps(f, _mm512_set1_ps(args.x.scale[token * all + first + j]));
        }
        t = _mm512_fmadd_ps(groups[j].d, f, t);
        if constexpr (Format<kType>::kHasMin) {
            int32_t s = group_sum(args.x.high_sum + token * all * 2, first + j);
            if constexpr (kKind == ActivationKind::kA16) {
                s = 256 * s + group_sum(args.x.low_sum + token * all * 2, first + j);
            }
            t = _mm512_fmadd_ps(groups[j].m, _mm512_set1_ps(static_cast<float>(s)), t);
        }
    }
    if constexpr (kKind == ActivationKind::kA32P) return _mm512_add_ps(acc, t);
    const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    return _mm512_fmadd_ps(t, _mm512_set1_ps(args.x.scale[token * blocks + first / kBlockGroups]), acc);
}

// Adds to acc[i], for the tokens from `first_token` on.
template <WeightType kType, ActivationKind kKind>
void sixteen_rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, __m512* acc) {
    const uint32_t all = args.cols / kGroup;
    Group groups[kBlockGroups];
    Sums high;
    Sums low;
    for (uint32_t first = 0; first < all; first += kBlockGroups) {
        const uint32_t count = all - first < kBlockGroups ? all - first : kBlockGroups;
        for (uint32_t j = 0; j < count; ++j) Format<kType>::load(rows, first + j, groups[j]);
        for (uint32_t i = 0; i < tokens; i += kTokens) {
            const uint32_t left = tokens - i < kTokens ? tokens - i : kTokens;
            const Plane plane(args.x.high, args, first_token + i, left, first * kGroup, count * kGroup);
            multiply(plane.at(), plane.stride(), groups[0].words, sizeof(Group), count, high);
            if constexpr (kKind == ActivationKind::kA16) {
                const Plane low_plane(args.x.low, args, first_token + i, left, first * kGroup, count * kGroup);
                multiply(low_plane.at(), low_plane.stride(), groups[0].words, sizeof(Group), count, low);
            }
            for (uint32_t t = 0; t < left; ++t) {
                acc[i + t] =
                    add_block<kType, kKind>(args, first_token + i + t, first, groups, count, high, low, t, acc[i + t]);
            }
        }
    }
}

template <WeightType kType, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    by_sixteen_rows<kGroup>(args, row_begin, row_end, sixteen_rows<kType, kKind>);
}

// The kernel of `kNarrow` or of 16-bit activations.
template <WeightType kType, ActivationKind kNarrow>
LinearKernel of(ActivationKind kind) {
    if (kind == kNarrow) return linear<kType, kNarrow>;
    return kind == ActivationKind::kA16 ? linear<kType, ActivationKind::kA16> : nullptr;
}

}  // namespace

LinearKernel groups_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ8_0: return of<WeightType::kQ8_0, ActivationKind::kA32P>(kind);
        case WeightType::kQ4_0: return of<WeightType::kQ4_0, ActivationKind::kA256>(kind);
        case WeightType::kQ4_1: return of<WeightType::kQ4_1, ActivationKind::kA256>(kind);
        case WeightType::kQ5_0: return of<WeightType::kQ5_0, ActivationKind::kA256>(kind);
        case WeightType::kQ5_1: return of<WeightType::kQ5_1, ActivationKind::kA256>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::amx
