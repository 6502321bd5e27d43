// Rule 3 for weights whose groups of 32 have a float scale each (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1), for many tokens.
//
// A tile multiplies 16 tokens by 16 rows of the matrix over one group. From its sums each token goes on with its float
// chains, a row per lane, in the contract's order. Weights are unpacked once for all tokens of the call. Few tokens are
// the AVX-512 kernels' work.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/block.h"

namespace driftwood::compute::amx {

namespace {

template <WeightType kType, ActivationKind kKind>
struct GroupsWork {
    using Lanes = amx::Lanes;
    static constexpr uint32_t kTileValues = kGroup;
    static constexpr uint32_t kBandTiles = 1;
    static constexpr uint32_t kParts = 1;
    static constexpr bool kMin = Format<kType>::kHasMin;
    static constexpr uint32_t kDigits = kKind == ActivationKind::kA16 ? 2 : 1;

    struct Slab {
        GroupOf<Lanes> group[kBlockGroups];
    };

    struct Panel {
        Plane<kGroup> plane[kDigits];
        alignas(64) float scale[kMaxTokens];                      // of the super-block
        alignas(64) float group_scale[kBlockGroups][kMaxTokens];  // A32P
        alignas(64) float group_sum[kBlockGroups][kMaxTokens];    // of types with minima
    };

    struct Sums {
        alignas(64) int32_t of[kDigits][kBlockGroups][kTokens][kRows];
    };

    static void load(const RowsOf<Lanes>& rows, uint32_t /*tile*/, uint32_t block, uint32_t values, Slab& slab) {
        for (uint32_t j = 0; j < values / kGroup; ++j) {
            Format<kType>::load(rows, block * kBlockGroups + j, slab.group[j]);
        }
    }

    static void pack(const Linear& args, uint32_t first, uint32_t tokens, uint32_t block, Panel& panel) {
        const int8_t* const digits[2] = {args.x.high, args.x.low};
        for (uint32_t i = 0; i < kDigits; ++i) panel.plane[i].pack(digits[i], args, first, tokens, block);
        const size_t all = args.cols / kGroup;
        const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
        const size_t left = all - block * kBlockGroups;
        const uint32_t groups = left < kBlockGroups ? static_cast<uint32_t>(left) : kBlockGroups;
        for (uint32_t t = 0; t < tokens; ++t) {
            const size_t token = first + t;
            const size_t at = token * all + block * kBlockGroups;
            if constexpr (kKind != ActivationKind::kA32P) panel.scale[t] = args.x.scale[token * blocks + block];
            for (uint32_t j = 0; (kMin || kKind == ActivationKind::kA32P) && j < groups; ++j) {
                if constexpr (kKind == ActivationKind::kA32P) panel.group_scale[j][t] = args.x.scale[at + j];
                if constexpr (kMin) {
                    int32_t s = group_sum(args.x.high_sum + at * 2, j);
                    if constexpr (kDigits == 2) s = 256 * s + group_sum(args.x.low_sum + at * 2, j);
                    panel.group_sum[j][t] = static_cast<float>(s);
                }
            }
        }
    }

    template <class AnyTurn>
    static void turn(const Panel& panel, const Slab& slab, AnyTurn* next, const AnyTurn* before) {
        __m512 t[kTokens];
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kTokens; ++i) t[i] = _mm512_setzero_ps();
        for (uint32_t j = 0; j < kBlockGroups; ++j) {
            if (next != nullptr && j < next->at.groups) multiply<0>(panel, slab, next->at.tile, j, next->sums);
            if (before != nullptr && j < before->at.groups) {
                add_group(panel, before->sums, before->at.tile, j, slab.group[j], t);
            }
        }
        if (before == nullptr) return;
        const Results results = before->results[0];
        const float* const scale = panel.scale + size_t{before->at.tile} * kTokens;
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kTokens; ++i) {
            __m512 acc = _mm512_load_ps(results.from + i * results.from_stride);
            if constexpr (kKind == ActivationKind::kA32P) {
                acc = _mm512_add_ps(acc, t[i]);
            } else {
                acc = _mm512_fmadd_ps(t[i], _mm512_set1_ps(scale[i]), acc);
            }
            if (results.streams) {
                _mm512_stream_ps(results.to + i * results.to_stride, acc);
            } else {
                _mm512_storeu_ps(results.to + i * results.to_stride, acc);
            }
        }
    }

  private:
    template <uint32_t kDigit>
    [[gnu::always_inline]] static void multiply(const Panel& panel, const Slab& slab, uint32_t tile, uint32_t group,
                                                Sums& sums) {
        tile_load<4>(panel.plane[kDigit].of[tile][group], kGroup);
        tile_load<6>(slab.group[group].words, sizeof(__m512i));
        tile_zero<0>();
        tile_multiply<0, 4, 6>();
        tile_store<0>(sums.of[kDigit][group], sizeof(sums.of[0][0][0]));
        if constexpr (kDigit + 1 < kDigits) multiply<kDigit + 1>(panel, slab, tile, group, sums);
    }

    // One link of each token's chain.
    [[gnu::always_inline]] static void add_group(const Panel& panel, const Sums& sums, uint32_t tile, uint32_t j,
                                                 const GroupOf<Lanes>& group, __m512 t[kTokens]) {
        const float* const scale = panel.group_scale[j] + size_t{tile} * kTokens;
        const float* const group_sum = panel.group_sum[j] + size_t{tile} * kTokens;
        const __m512 d = group.d;
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kTokens; ++i) {
            __m512i sum = _mm512_load_si512(sums.of[0][j][i]);
            if constexpr (kDigits == 2) {
                sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8), _mm512_load_si512(sums.of[1][j][i]));
            }
            __m512 f = _mm512_cvtepi32_ps(sum);
            if constexpr (kKind == ActivationKind::kA32P) f = _mm512_mul_ps(f, _mm512_set1_ps(scale[i]));
            t[i] = _mm512_fmadd_ps(d, f, t[i]);
            if constexpr (kMin) t[i] = _mm512_fmadd_ps(group.m, _mm512_set1_ps(group_sum[i]), t[i]);
        }
    }
};

// The kernel of `kNarrow` or of 16-bit activations.
template <WeightType kType, ActivationKind kNarrow>
LinearKernel of(ActivationKind kind) {
    if (kind == kNarrow) return multiply_all<GroupsWork<kType, kNarrow>>;
    return kind == ActivationKind::kA16 ? multiply_all<GroupsWork<kType, ActivationKind::kA16>> : nullptr;
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
