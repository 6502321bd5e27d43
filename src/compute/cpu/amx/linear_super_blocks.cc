// Rule 3 for super-blocks with integer scales (Q4_K, Q5_K, Q6_K, Q4S), for many tokens: planes.h says how. Weights are
// multiplied by their scales once for all tokens of the call. Few tokens are the AVX-512 kernels' work.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/planes.h"

namespace driftwood::compute::amx {

namespace {

// A number below 2^16 in both halves of each word.
__m512i twice(__m512i x) { return _mm512_or_si512(x, _mm512_slli_epi32(x, 16)); }

// Bytes from the low halves of 16-bit numbers, which belong to even and odd values.
__m512i bytes_of(__m512i even, __m512i odd) {
    return _mm512_or_si512(_mm512_and_si512(even, _mm512_set1_epi16(255)), _mm512_slli_epi16(odd, 8));
}

// A scale of 6 bits is two numbers of 3, and a weight without sign times one of them stays in its byte, so that one
// multiplication of 16 bits serves two weights.
template <WeightType kType, uint32_t kDigits>
struct WithMinima {
    using Lanes = LanesOf<false>;
    static constexpr uint32_t kPlanes = 2;
    static constexpr uint32_t kShift = 3;
    static constexpr bool kUnsigned = true;
    static constexpr bool kMin = true;
    static constexpr uint32_t kActivations = kDigits;
    static_assert(7 * Format<kType>::kMax <= 255);

    static Scales load(const RowsOf<Lanes>& rows, uint32_t index, uint32_t /*values*/, __m512i (*words)[kBlockWords]) {
        SuperBlockOf<Lanes, Format<kType>::kParts> block;
        Format<kType>::load(rows, index, block);
        for (uint32_t j = 0; j < kBlockGroups; ++j) {
            const __m512i high = twice(_mm512_srli_epi32(block.scale[j], 3));
            const __m512i low = twice(_mm512_and_si512(block.scale[j], _mm512_set1_epi32(7)));
            for (uint32_t w = j * kGroupWords; w < (j + 1) * kGroupWords; ++w) {
                words[0][w] = _mm512_mullo_epi16(block.words[w], high);
                words[1][w] = _mm512_mullo_epi16(block.words[w], low);
            }
        }
        Scales scales{.d = block.d, .dmin = block.dmin, .min = {}};
        for (uint32_t j = 0; j < kBlockGroups; j += 2) {
            scales.min[j / 2] = _mm512_or_si512(block.min[j], _mm512_slli_epi32(block.min[j + 1], 16));
        }
        return scales;
    }
};

// Products of 13 bits and a sign, in two numbers: multiples of 128 and what is left, in -64..63.
template <uint32_t kDigits>
struct Q6K {
    using Lanes = LanesOf<true>;
    static constexpr uint32_t kPlanes = 2;
    static constexpr uint32_t kShift = 7;
    static constexpr bool kUnsigned = false;
    static constexpr bool kMin = false;
    static constexpr uint32_t kActivations = kDigits;

    static Scales load(const RowsOf<Lanes>& rows, uint32_t index, uint32_t /*values*/, __m512i (*words)[kBlockWords]) {
        constexpr uint32_t kParts = Format<WeightType::kQ6_K>::kParts;
        SuperBlockOf<Lanes, kParts> block;
        Format<WeightType::kQ6_K>::load(rows, index, block);
        for (uint32_t w = 0; w < kBlockWords; ++w) {
            const __m512i scale = block.scale[w / (kBlockWords / kParts)];
            const __m512i both = twice(_mm512_and_si512(scale, _mm512_set1_epi32(0xFFFF)));
            const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(block.words[w], 8), both);
            const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(block.words[w], 8), 8), both);
            const auto multiples = [](__m512i product) {
                return _mm512_srai_epi16(_mm512_add_epi16(product, _mm512_set1_epi16(64)), 7);
            };
            const auto rest = [&](__m512i product) {
                return _mm512_sub_epi16(product, _mm512_slli_epi16(multiples(product), 7));
            };
            words[0][w] = bytes_of(multiples(even), multiples(odd));
            words[1][w] = bytes_of(rest(even), rest(odd));
        }
        return {.d = block.d, .dmin = _mm512_setzero_ps(), .min = {}};
    }
};

// A value, 0..15 before 8 is taken from it, times a scale of 4 bits stays in its byte; so does the difference.
template <uint32_t kDigits>
struct Q4S {
    using Lanes = LanesOf<false>;
    static constexpr uint32_t kPlanes = 1;
    static constexpr uint32_t kShift = 0;
    static constexpr bool kUnsigned = false;
    static constexpr bool kMin = false;
    static constexpr uint32_t kActivations = kDigits;

    static Scales load(const RowsOf<Lanes>& rows, uint32_t index, uint32_t /*values*/, __m512i (*words)[kBlockWords]) {
        using Blocks = Format<WeightType::kQ4S>;
        SuperBlockOf<Lanes, Blocks::kParts> block;
        Blocks::load(rows, index, block);
        for (uint32_t j = 0; j < kBlockGroups; ++j) {
            const __m512i scale = twice(block.scale[j]);
            const __m512i too_much = _mm512_mullo_epi16(scale, _mm512_set1_epi16(0x0101 * Blocks::kOffset));
            for (uint32_t w = j * kGroupWords; w < (j + 1) * kGroupWords; ++w) {
                words[0][w] = _mm512_sub_epi8(_mm512_mullo_epi16(block.words[w], scale), too_much);
            }
        }
        return {.d = block.d, .dmin = _mm512_setzero_ps(), .min = {}};
    }
};

template <template <uint32_t> class Format>
LinearKernel of(ActivationKind kind) {
    if (kind == ActivationKind::kA256) return multiply_all<PlanesWork<Format<1>>>;
    return kind == ActivationKind::kA16 ? multiply_all<PlanesWork<Format<2>>> : nullptr;
}

template <uint32_t kDigits>
using Q4K = WithMinima<WeightType::kQ4_K, kDigits>;
template <uint32_t kDigits>
using Q5K = WithMinima<WeightType::kQ5_K, kDigits>;

}  // namespace

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return of<Q4K>(kind);
        case WeightType::kQ5_K: return of<Q5K>(kind);
        case WeightType::kQ6_K: return of<Q6K>(kind);
        case WeightType::kQ4S: return of<Q4S>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::amx
