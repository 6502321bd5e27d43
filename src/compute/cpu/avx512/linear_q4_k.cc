// Rule 3 for Q4_K: one token, and many over slabs (linear_slab.h).
#include "compute/cpu/avx512/linear_q4_k_few.h"

namespace driftwood::compute::avx512 {

namespace {

// ---- several tokens

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

// ---- one token

// The activations of a super-block as the bytes of a row lie: [bytes 64 h …][low or high bits], two groups in each.
struct Activations256 {
    __m512i x[2][2];
};

Activations256 pair_groups(const int8_t* q) {
    Activations256 out;
    for (uint32_t h = 0; h < 2; ++h) {
        for (uint32_t top = 0; top < 2; ++top) {
            const auto* first = reinterpret_cast<const uint8_t*>(q) + size_t{4 * h + top} * kGroup;
            out.x[h][top] = load_two(first, first + size_t{2} * kGroup);
        }
    }
    return out;
}

// Which of a row's eight scales, as 16-bit numbers, meet those.
Activations256 pair_patterns() {
    Activations256 out;
    for (uint32_t h = 0; h < 2; ++h) {
        for (uint32_t top = 0; top < 2; ++top) {
            const auto word = [](uint32_t group) { return static_cast<int16_t>(0x8000U | group); };
            const __m512i low = _mm512_set1_epi16(word(4 * h + top));
            out.x[h][top] = _mm512_mask_set1_epi16(low, 0xFFFF0000U, word(4 * h + top + 2));
        }
    }
    return out;
}

// The sixteen words of each of sixteen rows summed: four rows' registers at a time, then across their 128-bit lanes.
__m512i fold_rows(const __m512i four[4]) {
    const __m512i low =
        _mm512_add_epi32(_mm512_shuffle_i64x2(four[0], four[1], 0x44), _mm512_shuffle_i64x2(four[0], four[1], 0xEE));
    const __m512i high =
        _mm512_add_epi32(_mm512_shuffle_i64x2(four[2], four[3], 0x44), _mm512_shuffle_i64x2(four[2], four[3], 0xEE));
    return _mm512_add_epi32(_mm512_shuffle_i64x2(low, high, 0x88), _mm512_shuffle_i64x2(low, high, 0xDD));
}

// Sixteen rows from r on.
template <class Rows>
void one_token_of(const Linear& args, uint32_t r, __mmask16 mask, Rows rows) {
    const Activations256 patterns = pair_patterns();
    const uint8_t* following = args.weights + size_t{r + kLanes} * args.row_bytes;
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t block = 0; block < args.cols / kSuperBlock; ++block) {
        const Header header = load_header(rows, 0);
        alignas(64)
            uint64_t scales[2][kLanes / 2];  // rows 4 i and 4 i + 1 at [0][2 i]; 4 i + 2 and 4 i + 3 at [1][2 i]
        _mm512_store_si512(scales[0], _mm512_unpacklo_epi32(header.scale[0], header.scale[1]));
        _mm512_store_si512(scales[1], _mm512_unpackhi_epi32(header.scale[0], header.scale[1]));
        const Activations256 x = pair_groups(args.x.high + size_t{block} * kSuperBlock);
        __m512i four[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            __m512i part[4];
            prefetch<kBlockBytes * kLanes / 4>(following);
            following += kBlockBytes * kLanes / 4;
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; ++j) {
                const uint8_t* n = rows[4 * i + j] + kHeaderBytes;
                const __m512i scale = _mm512_set1_epi64(static_cast<int64_t>(scales[j / 2][2 * i + j % 2]));
                part[j] = _mm512_setzero_si512();
#pragma GCC unroll 2
                for (uint32_t h = 0; h < 2; ++h) {
                    const __m512i both = _mm512_loadu_si512(n + size_t{64} * h);
                    part[j] = _mm512_dpwssd_epi32(part[j], _mm512_maddubs_epi16(low_half(both), x.x[h][0]),
                                                  _mm512_shuffle_epi8(scale, patterns.x[h][0]));
                    part[j] = _mm512_dpwssd_epi32(part[j], _mm512_maddubs_epi16(high_half(both), x.x[h][1]),
                                                  _mm512_shuffle_epi8(scale, patterns.x[h][1]));
                }
            }
            four[i] = fold_lanes(part);
        }
        const Sums sums = split_sums(args.x.high_sum + size_t{block} * (kSuperBlock / kSumGroup));
        const __m512 t = block_sum(header.d, fold_rows(four), header.dmin, minima(header.min, sums));
        acc = _mm512_fmadd_ps(t, _mm512_set1_ps(args.x.scale[block]), acc);
        rows.advance(kBlockBytes);
    }
    _mm512_mask_storeu_ps(args.y + r, mask, acc);
}

void one_token(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const uint8_t* first = args.weights + r * args.row_bytes;
        const __mmask16 mask = lanes_left(r, row_end);
        if (row_end - r >= kLanes) {
            one_token_of(args, r, mask, EvenRows(first, args.row_bytes));
        } else {
            one_token_of(args, r, mask, LastRows(first, args.row_bytes, row_end - r));
        }
    }
}

}  // namespace

void linear_q4_k(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    if (args.tokens == 1) {
        one_token(args, row_begin, row_end);
    } else if (args.tokens <= kFewTokens && args.cols / kSuperBlock <= kMaxFewBlocks) {
        few_tokens(args, row_begin, row_end);
    } else {
        slab_product<Q4_K>(args, row_begin, row_end);
    }
}

}  // namespace driftwood::compute::avx512
