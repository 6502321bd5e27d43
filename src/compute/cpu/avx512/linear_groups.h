// Rule 3 for types whose groups of 32 have a float scale each, as templates over the format. A format has
//   kKind           the activations it multiplies
//   kBlockBytes     of a group
//   kShift          what its unsigned bytes have too much
//   load(row, offset, words)            16 rows of a group as kWords registers of unsigned bytes
//   scale(row, offset)                  their scales
#pragma once

#include "compute/cpu/avx512/linear_slab.h"
#include "compute/cpu/avx512/sixteen_rows.h"

namespace driftwood::compute::avx512 {
namespace {

// 2^23 · 1.5: an integer I added to its bits is the float 12582912 + I, for |I| < 2^22. Every I here is at most
// 32 · 128 · 127.
constexpr int32_t kMagic = static_cast<int32_t>(kRoundMagicBits);
constexpr int32_t kOneBits = 0x3F800000;
// With a power of two above this, that float would overflow.
constexpr int32_t kHugeScaleBits = (127 + 104) << 23;

struct GroupSlab {
    __m512i words[kSlabGroups][kWords][kTiles];
    __m512 scale[kSlabGroups][kTiles];
};

// Where the sums of a token's groups begin, so that they end as (12582912 + I) · 2^e, and what makes I · 2^e of that.
template <uint32_t Tokens, uint32_t Groups = kSlabGroups>
struct Starts {
    alignas(32) int32_t start[Tokens][Groups];
    alignas(32) int32_t offset[Tokens][Groups];
    bool huge;  // of a scale: then sums begin at −shift · S, and `offset` is the scale
};

template <class Format, uint32_t Tokens, uint32_t Groups>
void make_starts(const Linear& args, uint32_t token, uint32_t first_group, uint32_t groups,
                 Starts<Tokens, Groups>& out) {
    const size_t row_groups = args.cols / kGroup;
    const auto tables = [&](bool huge) {
        __m256i largest = _mm256_setzero_si256();
        for (uint32_t t = 0; t < Tokens; ++t) {
            const size_t at = (token + t) * row_groups + first_group;
            for (uint32_t g = 0; g < groups; g += kGroupsPerSuperBlock) {
                const uint32_t count = groups - g < kGroupsPerSuperBlock ? groups - g : kGroupsPerSuperBlock;
                const __m256i shift = _mm256_mullo_epi32(group_sums(args.x.high_sum + 2 * (at + g), count),
                                                         _mm256_set1_epi32(Format::kShift));
                __m256i offset = _mm256_set1_epi32(kMagic);
                if constexpr (Format::kKind == ActivationKind::kA32P) {
                    const auto mask = static_cast<__mmask8>((uint32_t{1} << count) - 1);
                    const __m256i scale = _mm256_maskz_loadu_epi32(mask, args.x.scale + at + g);
                    largest = _mm256_max_epi32(largest, scale);
                    offset = huge ? scale : _mm256_add_epi32(scale, _mm256_set1_epi32(kMagic - kOneBits));
                }
                const __m256i start = huge ? _mm256_setzero_si256() : offset;
                _mm256_store_si256(reinterpret_cast<__m256i*>(&out.offset[t][g]), offset);
                _mm256_store_si256(reinterpret_cast<__m256i*>(&out.start[t][g]), _mm256_sub_epi32(start, shift));
            }
        }
        return _mm256_movemask_epi8(_mm256_cmpgt_epi32(largest, _mm256_set1_epi32(kHugeScaleBits))) != 0;
    };
    out.huge = tables(false);
    if (out.huge) tables(true);
}

template <class Format, uint32_t Tokens, bool kHuge>
void multiply_groups(const Linear& args, uint32_t token, const Part<GroupSlab>& part, const Starts<Tokens>& starts) {
    const int8_t* q[Tokens];
    __m512 acc[Tokens][kTiles];
    const size_t super_blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    const auto y = [&](uint32_t t, uint32_t k) {
        return args.y + size_t{token + t} * args.y_stride + part.first_row + k * kLanes;
    };
    const __mmask16 mask[kTiles] = {part.mask(0), part.mask(1)};
#pragma GCC unroll 4
    for (uint32_t t = 0; t < Tokens; ++t) {
        q[t] = args.x.high + size_t{token + t} * args.cols + size_t{part.first_group} * kGroup;
#pragma GCC unroll 2
        for (uint32_t k = 0; k < kTiles; ++k) {
            acc[t][k] = part.first_group == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[k], y(t, k));
        }
    }
    for (uint32_t begin = 0; begin < part.groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = part.groups - begin < kGroupsPerSuperBlock ? part.groups : begin + kGroupsPerSuperBlock;
        __m512 sum[Tokens][kTiles];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
            for (uint32_t k = 0; k < kTiles; ++k) sum[t][k] = _mm512_setzero_ps();
        }
        for (uint32_t g = begin; g < end; ++g) {
            __m512i total[Tokens][kTiles];
#pragma GCC unroll 4
            for (uint32_t t = 0; t < Tokens; ++t) {
                total[t][0] = _mm512_set1_epi32(starts.start[t][g]);
                total[t][1] = total[t][0];
            }
#pragma GCC unroll 8
            for (uint32_t d = 0; d < kWords; ++d) {
                const __m512i w0 = part.slab.words[g][d][0];
                const __m512i w1 = part.slab.words[g][d][1];
#pragma GCC unroll 4
                for (uint32_t t = 0; t < Tokens; ++t) {
                    const __m512i x = broadcast_word(q[t] + g * kGroup + d * 4);
                    total[t][0] = _mm512_dpbusd_epi32(total[t][0], w0, x);
                    total[t][1] = _mm512_dpbusd_epi32(total[t][1], w1, x);
                }
            }
#pragma GCC unroll 4
            for (uint32_t t = 0; t < Tokens; ++t) {
                const __m512 offset = _mm512_castsi512_ps(_mm512_set1_epi32(starts.offset[t][g]));
#pragma GCC unroll 2
                for (uint32_t k = 0; k < kTiles; ++k) {
                    const __m512 f = kHuge ? _mm512_mul_ps(_mm512_cvtepi32_ps(total[t][k]), offset)
                                           : _mm512_sub_ps(_mm512_castsi512_ps(total[t][k]), offset);
                    sum[t][k] = _mm512_fmadd_ps(part.slab.scale[g][k], f, sum[t][k]);
                }
            }
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < Tokens; ++t) {
            const size_t block = (part.first_group + begin) / kGroupsPerSuperBlock;
            const float scale =
                Format::kKind == ActivationKind::kA32P ? 1.0F : args.x.scale[(token + t) * super_blocks + block];
#pragma GCC unroll 2
            for (uint32_t k = 0; k < kTiles; ++k) {
                acc[t][k] = Format::kKind == ActivationKind::kA32P
                                ? _mm512_add_ps(acc[t][k], sum[t][k])
                                : _mm512_fmadd_ps(sum[t][k], _mm512_set1_ps(scale), acc[t][k]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
        for (uint32_t k = 0; k < kTiles; ++k) _mm512_mask_storeu_ps(y(t, k), mask[k], acc[t][k]);
    }
}

template <class Format>
struct Groups {
    using Slab = GroupSlab;
    static constexpr uint32_t kUnitGroups = 1;
    static constexpr size_t kUnitBytes = Format::kBlockBytes;

    static void make(const uint8_t* const* rows, size_t offset, Slab& slab, uint32_t group, uint32_t tile) {
        __m512i words[kWords];
        Format::load(rows, offset, words);
#pragma GCC unroll 8
        for (uint32_t d = 0; d < kWords; ++d) slab.words[group][d][tile] = words[d];
        slab.scale[group][tile] = Format::scale(rows, offset);
    }

    template <uint32_t Tokens>
    static void multiply(const Linear& args, uint32_t token, const Part<Slab>& part) {
        Starts<Tokens> starts;
        make_starts<Format>(args, token, part.first_group, part.groups, starts);
        if (starts.huge) {
            multiply_groups<Format, Tokens, true>(args, token, part, starts);
        } else {
            multiply_groups<Format, Tokens, false>(args, token, part, starts);
        }
    }
};

template <int kLane>
[[gnu::always_inline]] inline __m128i insert_half(__m128i x, const uint8_t* at) {
    uint16_t half = 0;
    __builtin_memcpy(&half, at, sizeof(half));
    return _mm_insert_epi16(x, half, kLane);
}

template <class Rows>
[[gnu::always_inline]] inline __m128i eight_halves(const Rows& rows, uint32_t first) {
    __m128i x = insert_half<0>(_mm_setzero_si128(), rows[first]);
    x = insert_half<1>(x, rows[first + 1]);
    x = insert_half<2>(x, rows[first + 2]);
    x = insert_half<3>(x, rows[first + 3]);
    x = insert_half<4>(x, rows[first + 4]);
    x = insert_half<5>(x, rows[first + 5]);
    x = insert_half<6>(x, rows[first + 6]);
    return insert_half<7>(x, rows[first + 7]);
}

// The f16 numbers at sixteen rows. VPINSRW takes half a cycle where copying a number through memory takes a whole one.
template <class Rows>
[[gnu::always_inline]] inline __m512 load_scales(const Rows& rows) {
    const __m256i low = _mm256_castsi128_si256(eight_halves(rows, 0));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(low, eight_halves(rows, 8), 1));
}

}  // namespace
}  // namespace driftwood::compute::avx512
