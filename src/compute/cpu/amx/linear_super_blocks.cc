// Rule 3 for weights whose super-blocks have integer scales (Q4_K, Q5_K, Q6_K, Q4S), for many tokens.
//
// A tile multiplies 16 tokens by 16 rows of the matrix over one part that shares a scale. The sums of a super-block's
// parts are stored one after another; then each token multiplies them by the scales, a row per lane, and adds up, all
// of it exact in 32 bits. Weights are unpacked once for all tokens of the call. Few tokens are the AVX-512 kernels'
// work.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/block.h"

namespace driftwood::compute::amx {

namespace {

// A, or one digit's part of it, of one token.
template <uint32_t kParts>
__m512 scaled_sum(const PartSums<kParts>& sums, uint32_t token, const SuperBlockOf<Isa, kParts>& block) {
    __m512i total = _mm512_setzero_si512();
    for (uint32_t part = 0; part < kParts; ++part) {
        const __m512i sum = _mm512_load_si512(sums.of[part][token]);
        total = _mm512_add_epi32(total, _mm512_mullo_epi32(block.scale[part], sum));
    }
    return _mm512_cvtepi32_ps(total);
}

// B of one token.
template <ActivationKind kKind, uint32_t kParts>
__m512 minima(const Linear& args, uint32_t token, uint32_t index, const SuperBlockOf<Isa, kParts>& block) {
    const size_t first = size_t{token} * (args.cols / 16) + size_t{index} * (kSuperBlock / 16);
    __m512i total = _mm512_setzero_si512();
    for (uint32_t j = 0; j < kBlockGroups; ++j) {
        int32_t s = group_sum(args.x.high_sum + first, j);
        if constexpr (kKind == ActivationKind::kA16) s = 256 * s + group_sum(args.x.low_sum + first, j);
        total = _mm512_add_epi32(total, _mm512_mullo_epi32(block.min[j], _mm512_set1_epi32(s)));
    }
    return _mm512_cvtepi32_ps(total);
}

// Adds to acc[i], for the tokens from `first_token` on.
template <WeightType kType, ActivationKind kKind>
void sixteen_rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, __m512* acc) {
    constexpr uint32_t kParts = Format<kType>::kParts;
    constexpr size_t kPartBytes = sizeof(__m512i) * (kSuperBlock / kParts / 4);
    SuperBlockOf<Isa, kParts> block;
    PartSums<kParts> high;
    PartSums<kParts> low;
    const uint32_t blocks = args.cols / kSuperBlock;
    for (uint32_t b = 0; b < blocks; ++b) {
        Format<kType>::load(rows, b, block);
        for (uint32_t i = 0; i < tokens; i += kTokens) {
            const uint32_t left = tokens - i < kTokens ? tokens - i : kTokens;
            const Plane plane(args.x.high, args, first_token + i, left, b * kSuperBlock, kSuperBlock);
            multiply(plane.at(), plane.stride(), block.words, kPartBytes, kParts, high);
            if constexpr (kKind == ActivationKind::kA16) {
                const Plane low_plane(args.x.low, args, first_token + i, left, b * kSuperBlock, kSuperBlock);
                multiply(low_plane.at(), low_plane.stride(), block.words, kPartBytes, kParts, low);
            }
            for (uint32_t t = 0; t < left; ++t) {
                const uint32_t token = first_token + i + t;
                __m512 f = scaled_sum(high, t, block);
                if constexpr (kKind == ActivationKind::kA16) {
                    f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), f, scaled_sum(low, t, block));
                }
                __m512 sum;
                if constexpr (Format<kType>::kHasMin) {
                    const __m512 taken = _mm512_mul_ps(block.dmin, minima<kKind>(args, token, b, block));
                    sum = _mm512_fmsub_ps(block.d, f, taken);
                } else {
                    sum = _mm512_mul_ps(block.d, f);
                }
                const __m512 scale = _mm512_set1_ps(args.x.scale[size_t{token} * blocks + b]);
                acc[i + t] = _mm512_fmadd_ps(sum, scale, acc[i + t]);
            }
        }
    }
}

template <WeightType kType, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    by_sixteen_rows<kSuperBlock / Format<kType>::kParts>(args, row_begin, row_end, sixteen_rows<kType, kKind>);
}

// The kernel of `kNarrow` or of 16-bit activations.
template <WeightType kType, ActivationKind kNarrow>
LinearKernel of(ActivationKind kind) {
    if (kind == kNarrow) return linear<kType, kNarrow>;
    return kind == ActivationKind::kA16 ? linear<kType, ActivationKind::kA16> : nullptr;
}

}  // namespace

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return of<WeightType::kQ4_K, ActivationKind::kA256>(kind);
        case WeightType::kQ5_K: return of<WeightType::kQ5_K, ActivationKind::kA256>(kind);
        case WeightType::kQ6_K: return of<WeightType::kQ6_K, ActivationKind::kA256>(kind);
        case WeightType::kQ4S: return of<WeightType::kQ4S, ActivationKind::kA256>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::amx
