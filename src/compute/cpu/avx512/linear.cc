// Rule 3: Q8_0 weights times A32P activations.
//
// Sixteen rows of the matrix are sixteen lanes, so that each lane runs its row's float chain in the contract's order. A
// group of 32 weights of the sixteen rows (a 16 x 8 tile of 32-bit words) is transposed in registers: register d then
// holds word d of every row, and VPDPBUSD multiplies it by the activation's word d, broadcast. VPDPBUSD wants one side
// unsigned: weights are shifted by 128 (their top bit flipped), and 128 times the activations' sum is taken off again;
// all of it is exact in 32 bits.
//
// One token multiplies each tile as it is made. More tokens go over a super-block's eight tiles, which stay in the
// first-level cache, so that reading and transposing is paid once for all of them.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kBlockBytes = 2 + kGroup;  // f16 scale, 32 int8
constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
constexpr uint32_t kWords = kGroup / 4;
constexpr uint32_t kMaxTokens = 64;  // tokens whose sums are kept while a super-block is in cache

// One group of 16 rows: words[d] has 32-bit word d of each row, shifted to unsigned bytes.
struct Tile {
    __m512i words[kWords];
    __m512 scale;
};

// Where the 16 rows of a tile lie: byte offsets from the first, 32 bits each. Rows past the end repeat the last one.
struct Rows {
    const uint8_t* first;
    uint32_t offset[kLanes];
};

__m512i load_two(const uint8_t* low, const uint8_t* high) {
    const __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low)));
    return _mm512_inserti64x4(both, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)), 1);
}

// Transposes the 4 x 4 words inside each 128-bit lane of four registers: out[d] has word d of the four.
void transpose_lanes(const __m512i in[4], __m512i out[4]) {
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i c = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, b);
    out[1] = _mm512_unpackhi_epi64(a, b);
    out[2] = _mm512_unpacklo_epi64(c, d);
    out[3] = _mm512_unpackhi_epi64(c, d);
}

Tile load_tile(const Rows& rows, size_t block_offset) {
    const uint8_t* base = rows.first + block_offset;
    const uint8_t* values = base + 2;
    // Register pairs are chosen so that the transposed lanes come out in the order of the rows.
    __m512i in[8];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) {
        in[i] = load_two(values + rows.offset[i], values + rows.offset[i + 4]);
        in[i + 4] = load_two(values + rows.offset[i + 8], values + rows.offset[i + 12]);
    }
    __m512i low[4];   // rows 0-3 and 4-7: words 0-3, words 4-7
    __m512i high[4];  // rows 8-11 and 12-15
    transpose_lanes(in, low);
    transpose_lanes(in + 4, high);
    const __m512i flip = _mm512_set1_epi8(-128);
    Tile tile;
#pragma GCC unroll 4
    for (uint32_t d = 0; d < 4; ++d) {
        tile.words[d] = _mm512_xor_si512(_mm512_shuffle_i64x2(low[d], high[d], 0x88), flip);
        tile.words[d + 4] = _mm512_xor_si512(_mm512_shuffle_i64x2(low[d], high[d], 0xDD), flip);
    }
    // The scale is the low half of each block's first word; the block is longer than a word.
    const __m512i scale = _mm512_i32gather_epi32(_mm512_loadu_si512(rows.offset), base, 1);
    tile.scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(scale));
    return tile;
}

// Four activations, for every lane.
inline __m512i broadcast_word(const int8_t* q) {
    int32_t word = 0;
    __builtin_memcpy(&word, q, sizeof(word));
    return _mm512_set1_epi32(word);
}

// One group of one token: t = fma(w, float(I) · 2^e, t).
inline __m512 multiply_tile(const Tile& tile, const int8_t* q, float scale, int32_t sum, __m512 t) {
    __m512i even = _mm512_set1_epi32(-128 * sum);
    __m512i odd = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (uint32_t d = 0; d < kWords; d += 2) {
        even = _mm512_dpbusd_epi32(even, tile.words[d], broadcast_word(q + d * 4));
        odd = _mm512_dpbusd_epi32(odd, tile.words[d + 1], broadcast_word(q + d * 4 + 4));
    }
    const __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), _mm512_set1_ps(scale));
    return _mm512_fmadd_ps(tile.scale, f, t);
}

struct Token {
    const int8_t* q;
    const float* scale;
    const int32_t* sum;  // of every 16 values
};

int32_t group_sum(const Token& x, uint32_t group) { return x.sum[2 * group] + x.sum[2 * group + 1]; }

Token token_at(const Linear& args, uint32_t token) {
    const size_t groups = args.cols / kGroup;
    return {args.x.high + size_t{token} * args.cols, args.x.scale + token * groups,
            args.x.high_sum + token * groups * 2};
}

__m512 one_token(const Rows& rows, uint32_t groups, const Token& x) {
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        __m512 t = _mm512_setzero_ps();
        for (uint32_t j = begin; j < end; ++j) {
            const Tile tile = load_tile(rows, size_t{j} * kBlockBytes);
            t = multiply_tile(tile, x.q + size_t{j} * kGroup, x.scale[j], group_sum(x, j), t);
        }
        acc = _mm512_add_ps(acc, t);
    }
    return acc;
}

// acc[i] for `count` <= kMaxTokens tokens from `first` on.
void many_tokens(const Linear& args, const Rows& rows, uint32_t first, uint32_t count, __m512* acc) {
    const uint32_t groups = args.cols / kGroup;
    for (uint32_t i = 0; i < count; ++i) acc[i] = _mm512_setzero_ps();
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        Tile tiles[kGroupsPerSuperBlock];
        for (uint32_t j = begin; j < end; ++j) tiles[j - begin] = load_tile(rows, size_t{j} * kBlockBytes);
        uint32_t i = 0;
        for (; i + 4 <= count; i += 4) {
            const Token x[4] = {token_at(args, first + i), token_at(args, first + i + 1), token_at(args, first + i + 2),
                                token_at(args, first + i + 3)};
            __m512 t[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (uint32_t j = begin; j < end; ++j) {
                const Tile& tile = tiles[j - begin];
#pragma GCC unroll 4
                for (uint32_t k = 0; k < 4; ++k) {
                    t[k] = multiply_tile(tile, x[k].q + size_t{j} * kGroup, x[k].scale[j], group_sum(x[k], j), t[k]);
                }
            }
            for (uint32_t k = 0; k < 4; ++k) acc[i + k] = _mm512_add_ps(acc[i + k], t[k]);
        }
        for (; i < count; ++i) {
            const Token x = token_at(args, first + i);
            __m512 t = _mm512_setzero_ps();
            for (uint32_t j = begin; j < end; ++j) {
                t = multiply_tile(tiles[j - begin], x.q + size_t{j} * kGroup, x.scale[j], group_sum(x, j), t);
            }
            acc[i] = _mm512_add_ps(acc[i], t);
        }
    }
}

Rows rows_at(const Linear& args, uint32_t first, uint32_t count) {
    Rows rows{.first = args.weights + first * args.row_bytes, .offset = {}};
    for (uint32_t i = 0; i < kLanes; ++i) {
        rows.offset[i] = static_cast<uint32_t>((i < count ? i : count - 1) * args.row_bytes);
    }
    return rows;
}

}  // namespace

void linear_q8_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const __mmask16 mask = lanes_left(r, row_end);
        const Rows rows = rows_at(args, r, static_cast<uint32_t>(__builtin_popcount(mask)));
        if (args.tokens == 1) {
            _mm512_mask_storeu_ps(args.y + r, mask, one_token(rows, args.cols / kGroup, token_at(args, 0)));
            continue;
        }
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t count = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            __m512 acc[kMaxTokens];
            many_tokens(args, rows, first, count, acc);
            for (uint32_t i = 0; i < count; ++i) {
                _mm512_mask_storeu_ps(args.y + size_t{first + i} * args.y_stride + r, mask, acc[i]);
            }
        }
    }
}

// Rule 9: a row of the embedding.
void embed_q8_0(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const uint8_t* block = row + size_t{group} * kBlockBytes;
        uint16_t half = 0;
        __builtin_memcpy(&half, block, sizeof(half));
        const __m512 scale = _mm512_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2 + i));
            const __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            _mm512_storeu_ps(out + group * kGroup + i, _mm512_mul_ps(scale, value));
        }
    }
}

}  // namespace driftwood::compute::avx512
