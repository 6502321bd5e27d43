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
    static constexpr uint32_t kParts = Format::kPlanes;
    static constexpr uint32_t kSteps = kSlices * kDigits;
    static constexpr uint32_t kTokensPerStep = kTokens / kSteps;
    using Lanes = typename Format::Lanes;

    struct Slab {
        alignas(64) __m512i words[kBandTiles][Format::kPlanes][kBlockWords];
        Scales scales[kBandTiles];
    };

    struct Panel {
        Plane<kSliceValues> plane[kDigits];
        float scale[kMaxTokens];
        alignas(64) int16_t group_sums[kDigits][kMaxTokens][kBlockGroups];  // of types with minima
    };

    // Of the two planes of 16 rows, or of the band's two tiles of rows.
    struct Sums {
        alignas(64) int32_t of[kDigits][2][kTokens][kRows];
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

    static void load(const RowsOf<Lanes>& rows, uint32_t tile, uint32_t block, uint32_t values, Slab& slab) {
        slab.scales[tile] = Format::load(rows, block, values, slab.words[tile]);
    }

    // A slice is multiplied, then a few tokens of the turn before are worked on, and so on.
    template <class AnyTurn>
    [[gnu::always_inline]] static void turn(const Panel& panel, const Slab& slab, AnyTurn* next,
                                            const AnyTurn* before) {
        Front front{};
        if (next != nullptr) front = front_of(panel, slab, *next);
        Back back{};
        bool held = true;
        if (before != nullptr) {
            back = back_of(panel, slab, *before);
            for (const Results& results : before->results) held &= results.from == results.to;
        }
        constexpr std::make_integer_sequence<uint32_t, kSteps> kAll;
        if (held) {
            steps<true>(kAll, next != nullptr, front, before != nullptr, back);
        } else {
            steps<false>(kAll, next != nullptr, front, before != nullptr, back);
        }
    }

  private:
    static constexpr uint32_t kColumns = kBandTiles / kParts;  // of 16 rows in a turn

    // Where things lie, in registers: what stands in memory is read again after each tile instruction.
    struct Front {
        const int8_t* activations;  // of the first digit; its slices follow each other
        const __m512i* weights[2];
        int32_t* sums;
    };
    struct Back {
        const int32_t* sums;
        const int16_t* group_sums;
        const float* scale;
        const Scales* scales;
        Results results[kColumns];
    };

    static Front front_of(const Panel& panel, const Slab& slab, Turn<PlanesWork>& turn) {
        const Place& at = turn.at;
        const __m512i* const low = Format::kPlanes == 2 ? slab.words[at.part][1] : slab.words[1][0];
        return {panel.plane[0].of[at.tile][0][0], {slab.words[at.part][0], low}, turn.sums.of[0][0][0]};
    }

    static Back back_of(const Panel& panel, const Slab& slab, const Turn<PlanesWork>& turn) {
        const uint32_t token = turn.at.tile * kTokens;
        Back back{
            turn.sums.of[0][0][0], panel.group_sums[0][token], panel.scale + token, &slab.scales[turn.at.part], {}};
        for (uint32_t k = 0; k < kColumns; ++k) back.results[k] = turn.results[k];
        return back;
    }

    template <bool kHeld, uint32_t... kStep>
    [[gnu::always_inline]] static void steps(std::integer_sequence<uint32_t, kStep...> /*all*/, bool multiplies,
                                             Front front, bool adds, Back back) {
        (step<kHeld, kStep>(multiplies, front, adds, back), ...);
    }

    template <bool kHeld, uint32_t kStep>
    [[gnu::always_inline]] static void step(bool multiplies, Front front, bool adds, Back back) {
        if (multiplies) multiply<kStep>(front);
        if (adds) add<kStep, kHeld>(back);
    }

    template <uint32_t kStep>
    [[gnu::always_inline]] static void multiply(Front front) {
        constexpr uint32_t kDigit = kStep / kSlices;
        constexpr uint32_t kSlice = kStep % kSlices;
        constexpr size_t kWords = size_t{kSlice} * kSliceValues / 4;
        constexpr size_t kTile = size_t{kTokens} * kRows;
        if constexpr (kSlice == 0) {
            tile_zero<0>();
            tile_zero<1>();
        }
        tile_load<4>(front.activations + kDigit * sizeof(Panel::plane[0]) + kSlice * kTokens * kSliceValues,
                     kSliceValues);
        tile_load<6>(front.weights[0] + kWords, sizeof(__m512i));
        product<0, 4, 6>();
        tile_load<6>(front.weights[1] + kWords, sizeof(__m512i));
        product<1, 4, 6>();
        if constexpr (kSlice + 1 == kSlices) {
            tile_store<0>(front.sums + 2 * kDigit * kTile, kRows * sizeof(int32_t));
            tile_store<1>(front.sums + (2 * kDigit + 1) * kTile, kRows * sizeof(int32_t));
        }
    }

    template <int kSums, int kActivations, int kWeights>
    [[gnu::always_inline]] static void product() {
        if constexpr (Format::kUnsigned) {
            tile_multiply_unsigned<kSums, kActivations, kWeights>();
        } else {
            tile_multiply<kSums, kActivations, kWeights>();
        }
    }

    // kHeld: results lie where they were, a row after the other.
    template <uint32_t kStep, bool kHeld>
    [[gnu::always_inline]] static void add(Back back) {
        constexpr uint32_t kFirst = kStep * kTokensPerStep;
        constexpr size_t kTile = size_t{kTokens} * kRows;
        const int32_t* const sums = back.sums;
        const int16_t* const group_sums = back.group_sums;
        const float* const scale = back.scale;
#pragma GCC unroll 2
        for (uint32_t k = 0; k < kColumns; ++k) {
            const Scales& scales = back.scales[k];
            const __m512 d = scales.d;
            const __m512 dmin = scales.dmin;
            const __m512i min[4] = {scales.min[0], scales.min[1], scales.min[2], scales.min[3]};
            const float* const from = back.results[k].from;
            float* const to = back.results[k].to;
            const size_t from_stride = kHeld ? kRows : back.results[k].from_stride;
            const size_t to_stride = kHeld ? kRows : back.results[k].to_stride;
#pragma GCC unroll 16
            for (uint32_t i = kFirst; i < kFirst + kTokensPerStep; ++i) {
                __m512 f = scaled_sum(sums + k * kTile + i * kRows);
                if constexpr (kDigits == 2) {
                    const __m512 low = scaled_sum(sums + (2 + k) * kTile + i * kRows);
                    f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), f, low);
                }
                if constexpr (Format::kMin) {
                    __m512i b = minima(min, group_sums + i * kBlockGroups);
                    if constexpr (kDigits == 2) {
                        const __m512i low = minima(min, group_sums + (kMaxTokens + i) * kBlockGroups);
                        b = _mm512_add_epi32(_mm512_slli_epi32(b, 8), low);
                    }
                    f = _mm512_fmsub_ps(d, f, _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(b)));
                } else {
                    f = _mm512_mul_ps(d, f);
                }
                const __m512 acc = _mm512_load_ps((kHeld ? to : from) + i * from_stride);
                const __m512 sum = _mm512_fmadd_ps(f, _mm512_set1_ps(scale[i]), acc);
                if (!kHeld && back.results[k].streams) {
                    _mm512_stream_ps(to + i * to_stride, sum);
                } else {
                    _mm512_storeu_ps(to + i * to_stride, sum);
                }
            }
        }
    }

    // A, or one digit's part of it.
    [[gnu::always_inline]] static __m512 scaled_sum(const int32_t* sums) {
        if constexpr (Format::kPlanes == 1) return _mm512_cvtepi32_ps(_mm512_load_si512(sums));
        const __m512i high = _mm512_slli_epi32(_mm512_load_si512(sums), Format::kShift);
        return _mm512_cvtepi32_ps(_mm512_add_epi32(high, _mm512_load_si512(sums + kTokens * kRows)));
    }

    // B, or one digit's part of it. The compiler would copy the sum and broadcast each pair apart.
    [[gnu::always_inline]] static __m512i minima(const __m512i min[kBlockGroups / 2], const int16_t* group_sums) {
        __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kBlockGroups / 2; ++j) {
            const auto& pair = *reinterpret_cast<const int16_t(*)[2]>(group_sums + 2 * j);
            asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(min[j]), "m"(pair));
        }
        return sum;
    }
};

}  // namespace
}  // namespace driftwood::compute::amx
