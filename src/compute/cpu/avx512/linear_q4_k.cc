// Rule 3 for Q4_K: a few tokens, and many over slabs (linear_slab.h).
#include "compute/cpu/avx512/linear_q4_k_few.h"

namespace driftwood::compute::avx512 {

namespace {

struct Q4_K {
    struct Slab {
        __m512i words[kSlabGroups][kWords][kTiles];
        __m512i scale[kSlabGroups][kTiles];
        __m512 d[kSlabGroups / kGroupsPerSuperBlock][kTiles];
        __m512 dmin[kSlabGroups / kGroupsPerSuperBlock][kTiles];
        __m512i min[kSlabGroups / kGroupsPerSuperBlock][kTiles][2];
    };
    static constexpr uint32_t kUnitGroups = kGroupsPerSuperBlock;
    static constexpr size_t kUnitBytes = kBlockBytes;

    static void make(const uint8_t* const* rows, size_t offset, Slab& slab, uint32_t group, uint32_t tile) {
        __m512i in[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) in[i] = load_four(rows + i, offset);
        const Header header = unpack_header(in);
        const uint32_t block = group / kGroupsPerSuperBlock;
        slab.d[block][tile] = header.d;
        slab.dmin[block][tile] = header.dmin;
        for (uint32_t half = 0; half < 2; ++half) {
            slab.min[block][tile][half] = header.min[half];
            for (uint32_t j = 0; j < 4; ++j) {
                slab.scale[group + 4 * half + j][tile] =
                    _mm512_and_si512(_mm512_srli_epi32(header.scale[half], 8 * j), _mm512_set1_epi32(255));
            }
        }
        for (uint32_t p = 0; p < 4; ++p) {
            __m512i both[kWords];
            transpose_rows(rows, offset + kHeaderBytes + size_t{p} * 32, both);
#pragma GCC unroll 8
            for (uint32_t d = 0; d < kWords; ++d) {
                slab.words[group + 2 * p][d][tile] = low_half(both[d]);
                slab.words[group + 2 * p + 1][d][tile] = high_half(both[d]);
            }
        }
    }

    template <uint32_t Tokens>
    static void multiply(const Linear& args, uint32_t token, const Part<Slab>& part) {
        const int8_t* q[Tokens];
        __m512 acc[Tokens][kTiles];
        const size_t row_blocks = args.cols / kSuperBlock;
        const __mmask16 mask[kTiles] = {part.mask(0), part.mask(1)};
        const auto y = [&](uint32_t t, uint32_t k) {
            return args.y + size_t{token + t} * args.y_stride + part.first_row + k * kLanes;
        };
#pragma GCC unroll 4
        for (uint32_t t = 0; t < Tokens; ++t) {
            q[t] = args.x.high + size_t{token + t} * args.cols + size_t{part.first_group} * kGroup;
#pragma GCC unroll 2
            for (uint32_t k = 0; k < kTiles; ++k) {
                acc[t][k] = part.first_group == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[k], y(t, k));
            }
        }
        for (uint32_t begin = 0; begin < part.groups; begin += kGroupsPerSuperBlock) {
            __m512i a[Tokens][kTiles];
#pragma GCC unroll 4
            for (uint32_t t = 0; t < Tokens; ++t) a[t][0] = a[t][1] = _mm512_setzero_si512();
            for (uint32_t g = begin; g < begin + kGroupsPerSuperBlock; ++g) {
                __m512i total[Tokens][kTiles];
#pragma GCC unroll 4
                for (uint32_t t = 0; t < Tokens; ++t) total[t][0] = total[t][1] = _mm512_setzero_si512();
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
#pragma GCC unroll 2
                    for (uint32_t k = 0; k < kTiles; ++k) {
                        a[t][k] = _mm512_add_epi32(a[t][k], _mm512_mullo_epi32(total[t][k], part.slab.scale[g][k]));
                    }
                }
            }
            const uint32_t block = begin / kGroupsPerSuperBlock;
            const uint32_t row_block = part.first_group / kGroupsPerSuperBlock + block;
#pragma GCC unroll 4
            for (uint32_t t = 0; t < Tokens; ++t) {
                const size_t at = (token + t) * row_blocks + row_block;
                const Sums sums = split_sums(args.x.high_sum + at * (kSuperBlock / 16));
                const __m512 scale = _mm512_set1_ps(args.x.scale[at]);
#pragma GCC unroll 2
                for (uint32_t k = 0; k < kTiles; ++k) {
                    const __m512i b = minima(part.slab.min[block][k], sums);
                    acc[t][k] = _mm512_fmadd_ps(block_sum(part.slab.d[block][k], a[t][k], part.slab.dmin[block][k], b),
                                                scale, acc[t][k]);
                }
            }
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
            for (uint32_t k = 0; k < kTiles; ++k) _mm512_mask_storeu_ps(y(t, k), mask[k], acc[t][k]);
        }
    }
};

}  // namespace

void linear_q4_k(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    if (args.tokens <= kFewTokens && args.cols / kSuperBlock <= kMaxFewBlocks) {
        few_tokens(args, row_begin, row_end);
    } else {
        slab_product<Q4_K>(args, row_begin, row_end);
    }
}

}  // namespace driftwood::compute::avx512
