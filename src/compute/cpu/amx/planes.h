// Rule 3 for weights whose super-blocks have one float scale: what tiles multiply is a weight times its integer scale,
// as one or two numbers of 8 bits (planes), so that a super-block's sum A is
//     (high plane's sum << kShift) + low plane's sum
// in exact integers and nothing is scaled between the groups. Internal linkage (see cpu/README.md).
//
// A Format has
//   Lanes, kPlanes (1 or 2), kShift, kUnsigned (what tiles multiply has no sign), kMin, kActivations (planes: 1 or 2)
//   load(rows, block, values, words)     fills words[kPlanes][64], 4 values of each row to a word, and returns Scales
#pragma once

#include "compute/cpu/amx/block.h"

namespace driftwood::compute::amx {

namespace {  // each kernel file gets copies of its own

inline constexpr uint32_t kSlices = 4;                           // of a super-block, each a tile's multiplication
inline constexpr uint32_t kSliceValues = kSuperBlock / kSlices;  // 64
inline constexpr uint32_t kBlockWords = kSuperBlock / 4;

struct Scales {
    __m512 d;
    __m512 dmin;
    __m512i min[kBlockGroups / 2];  // two groups' minima as 16-bit numbers
};

template <class Format>
struct PlanesWork {
    static constexpr uint32_t kTileValues = kSliceValues;
    static constexpr uint32_t kBandTiles = 2;
    static constexpr uint32_t kDigits = Format::kActivations;
    static constexpr uint32_t kTokensPerStep = kTokens / (kSlices * kDigits);
    template <uint32_t kTiles>
    static constexpr uint32_t kSteps = kSlices* kDigits;
    using Lanes = typename Format::Lanes;

    template <uint32_t kTiles>
    struct Slab {
        alignas(64) __m512i words[kTiles][Format::kPlanes][kBlockWords];
        Scales scales[kTiles];
    };

    struct Panel {
        Plane<kSliceValues> plane[kDigits];
        float scale[kMaxTokens];
        alignas(16) int16_t group_sums[kDigits][kMaxTokens][kBlockGroups];  // of types with minima
    };

    // Of the two planes; of a single plane, of its even and odd slices, since a tile's sum is slow to follow itself.
    template <uint32_t kTiles>
    struct Sums {
        alignas(64) int32_t of[kDigits][kTiles][2][kTokens][kRows];
    };

    static void pack(const Linear& args, uint32_t first, uint32_t tokens, uint32_t block, Panel& panel) {
        const int8_t* const digits[2] = {args.x.high, args.x.low};
        const int32_t* const sums[2] = {args.x.high_sum, args.x.low_sum};
        const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
        for (uint32_t t = 0; t < tokens; ++t) panel.scale[t] = args.x.scale[size_t{first + t} * blocks + block];
        for (uint32_t i = 0; i < kDigits; ++i) {
            panel.plane[i].pack(digits[i], args, first, tokens, block);
            for (uint32_t t = 0; Format::kMin && t < tokens; ++t) {
                const size_t at = (size_t{first + t} * args.cols + block * kSuperBlock) / kSumGroup;
                const __m256i sixteens = _mm512_cvtepi32_epi16(_mm512_loadu_si512(sums[i] + at));
                const __m256i pairs = _mm256_madd_epi16(sixteens, _mm256_set1_epi16(1));
                _mm_store_si128(reinterpret_cast<__m128i*>(panel.group_sums[i][t]), _mm256_cvtepi32_epi16(pairs));
            }
        }
    }

    template <class AnySlab>
    static void load(const RowsOf<Lanes>& rows, uint32_t tile, uint32_t block, uint32_t values, AnySlab& slab) {
        slab.scales[tile] = Format::load(rows, block, values, slab.words[tile]);
    }

    template <uint32_t kStep, uint32_t kTiles, class AnyTurn>
    static void step(const Panel& panel, const Slab<kTiles>& slab, AnyTurn* next, const AnyTurn* before) {
        if (next != nullptr) multiply<kStep>(panel, next->at, slab, next->sums);
        if (before != nullptr) add<kStep>(panel, slab, *before);
    }

  private:
    template <uint32_t kStep, uint32_t kTiles>
    static void multiply(const Panel& panel, const Place& at, const Slab<kTiles>& slab, Sums<kTiles>& sums) {
        constexpr uint32_t kDigit = kStep / kSlices;
        constexpr uint32_t kSlice = kStep % kSlices;
        constexpr int kActivations = 4 + kSlice % 2;
        if constexpr (kSlice == 0) {
            each_sum<kTiles>([]<int kSum>(std::integral_constant<int, kSum>) { tile_zero<kSum>(); });
        }
        tile_load<kActivations>(panel.plane[kDigit].of[at.tile][kSlice], kSliceValues);
        each_sum<kTiles>([&]<int kSum>(std::integral_constant<int, kSum>) {
            constexpr uint32_t kSide = kSum % 2;
            if constexpr (Format::kPlanes == 1 && kSide != kSlice % 2) return;
            constexpr uint32_t kPlane = Format::kPlanes == 1 ? 0 : kSide;
            constexpr int kWeights = 6 + (Format::kPlanes == 1 ? kSum / 2 : kSum % 2);
            tile_load<kWeights>(slab.words[kSum / 2][kPlane] + size_t{kSlice} * kSliceValues / 4, sizeof(__m512i));
            if constexpr (Format::kUnsigned) {
                tile_multiply_unsigned<kSum, kActivations, kWeights>();
            } else {
                tile_multiply<kSum, kActivations, kWeights>();
            }
        });
        if constexpr (kSlice + 1 == kSlices) {
            each_sum<kTiles>([&]<int kSum>(std::integral_constant<int, kSum>) {
                tile_store<kSum>(sums.of[kDigit][kSum / 2][kSum % 2], sizeof(sums.of[0][0][0][0]));
            });
        }
    }

    template <uint32_t kStep, uint32_t kTiles, class AnyTurn>
    static void add(const Panel& panel, const Slab<kTiles>& slab, const AnyTurn& turn) {
        constexpr uint32_t kBegin = kStep * kTokensPerStep;
        for (uint32_t t = kBegin; t < kBegin + kTokensPerStep && t < turn.at.tokens; ++t) {
            const uint32_t token = turn.at.tile * kTokens + t;
            const __m512 scale = _mm512_set1_ps(panel.scale[token]);
            for (uint32_t k = 0; k < kTiles; ++k) {
                const Scales& scales = slab.scales[k];
                __m512 f = scaled_sum(turn.sums.of[0][k], t);
                if constexpr (kDigits == 2) {
                    f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), f, scaled_sum(turn.sums.of[1][k], t));
                }
                __m512 sum;
                if constexpr (Format::kMin) {
                    sum = _mm512_fmsub_ps(scales.d, f, _mm512_mul_ps(scales.dmin, minima(scales, panel, token)));
                } else {
                    sum = _mm512_mul_ps(scales.d, f);
                }
                float* to = turn.results[t][k];
                _mm512_store_ps(to, _mm512_fmadd_ps(sum, scale, _mm512_load_ps(to)));
            }
        }
    }

    template <uint32_t kTiles, class Body>
    static void each_sum(const Body& body) {
        [&]<int... kSum>(std::integer_sequence<int, kSum...>) { (body(std::integral_constant<int, kSum>()), ...); }
        (std::make_integer_sequence<int, int{2 * kTiles}>());
    }

    // A, or one digit's part of it.
    static __m512 scaled_sum(const int32_t (*sums)[kTokens][kRows], uint32_t token) {
        const __m512i high = _mm512_slli_epi32(_mm512_load_si512(sums[0][token]), Format::kShift);
        return _mm512_cvtepi32_ps(_mm512_add_epi32(high, _mm512_load_si512(sums[1][token])));
    }

    // B.
    static __m512 minima(const Scales& scales, const Panel& panel, uint32_t token) {
        __m512i digit[kDigits];
        for (uint32_t i = 0; i < kDigits; ++i) {
            digit[i] = _mm512_setzero_si512();
            for (uint32_t j = 0; j < kBlockGroups; j += 2) {
                int32_t pair = 0;
                __builtin_memcpy(&pair, &panel.group_sums[i][token][j], sizeof(pair));
                digit[i] = _mm512_dpwssd_epi32(digit[i], scales.min[j / 2], _mm512_set1_epi32(pair));
            }
        }
        if constexpr (kDigits == 1) return _mm512_cvtepi32_ps(digit[0]);
        return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(digit[0], 8), digit[kDigits - 1]));
    }
};

}  // namespace
}  // namespace driftwood::compute::amx
