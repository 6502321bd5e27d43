// Rule 3: Q8_0 weights times A32P activations.
//
// Eight rows of the matrix are eight lanes, so that each lane runs its row's float chain in the contract's order. A
// group of 32 weights of the eight rows (an 8 x 8 tile of 32-bit words) is transposed in registers: register d then
// holds word d of every row, and VPMADDUBSW multiplies it by the activation's word d, broadcast. VPMADDUBSW wants one
// side unsigned and saturates pairs at 32767: the weight's magnitude takes the one side, the activation with the
// weight's sign the other, and a pair is at most 2 · 128 · 127 = 32512.
//
// One token multiplies each tile as it is made. More tokens go over a super-block's eight tiles, which stay in the
// first-level cache, so that reading and transposing is paid once for all of them.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

constexpr uint32_t kBlockBytes = 2 + kGroup;  // f16 scale, 32 int8
constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
constexpr uint32_t kWords = kGroup / 4;
constexpr uint32_t kMaxTokens = 64;  // tokens whose sums are kept while a super-block is in cache

// One group of 8 rows: words[d] has 32-bit word d of each row.
struct Tile {
    __m256i words[kWords];
    __m256 scale;
};

// Where the 8 rows of a tile lie. Rows past the end repeat the last one.
struct Rows {
    const uint8_t* row[kLanes];
};

// Transposes 8 x 8 words: out[d] has word d of the eight.
void transpose(const __m256i in[8], __m256i out[8]) {
    __m256i quads[8];  // quads[4 h + w]: words w and w + 4 (in the two halves) of the rows 4 h..4 h + 3
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; ++h) {
        const __m256i* x = in + size_t{4} * h;
        const __m256i a = _mm256_unpacklo_epi32(x[0], x[1]);
        const __m256i b = _mm256_unpacklo_epi32(x[2], x[3]);
        const __m256i c = _mm256_unpackhi_epi32(x[0], x[1]);
        const __m256i d = _mm256_unpackhi_epi32(x[2], x[3]);
        quads[4 * h + 0] = _mm256_unpacklo_epi64(a, b);
        quads[4 * h + 1] = _mm256_unpackhi_epi64(a, b);
        quads[4 * h + 2] = _mm256_unpacklo_epi64(c, d);
        quads[4 * h + 3] = _mm256_unpackhi_epi64(c, d);
    }
#pragma GCC unroll 4
    for (uint32_t w = 0; w < 4; ++w) {
        out[w] = _mm256_permute2x128_si256(quads[w], quads[w + 4], 0x20);
        out[w + 4] = _mm256_permute2x128_si256(quads[w], quads[w + 4], 0x31);
    }
}

Tile load_tile(const Rows& rows, size_t block_offset) {
    __m256i in[kLanes];
    alignas(16) uint16_t half[kLanes];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kLanes; ++i) {
        const uint8_t* block = rows.row[i] + block_offset;
        __builtin_memcpy(half + i, block, sizeof(uint16_t));
        in[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 2));
    }
    Tile tile;
    transpose(in, tile.words);
    tile.scale = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(half)));
    return tile;
}

// Four activations, for every lane.
__m256i broadcast_word(const int8_t* q) {
    int32_t word = 0;
    __builtin_memcpy(&word, q, sizeof(word));
    return _mm256_set1_epi32(word);
}

// One group of one token: t = fma(w, float(I) · 2^e, t).
__m256 multiply_tile(const Tile& tile, const int8_t* q, float scale, __m256 t) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i even = _mm256_setzero_si256();
    __m256i odd = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (uint32_t d = 0; d < kWords; ++d) {
        const __m256i magnitude = _mm256_abs_epi8(tile.words[d]);
        const __m256i activations = _mm256_sign_epi8(broadcast_word(q + size_t{4} * d), tile.words[d]);
        const __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, activations), ones);
        (d % 2 == 0 ? even : odd) = _mm256_add_epi32(d % 2 == 0 ? even : odd, products);
    }
    const __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(even, odd)), _mm256_set1_ps(scale));
    return _mm256_fmadd_ps(tile.scale, f, t);
}

struct Token {
    const int8_t* q;
    const float* scale;
};

Token token_at(const Linear& args, uint32_t token) {
    const size_t groups = args.cols / kGroup;
    return {args.x.high + size_t{token} * args.cols, args.x.scale + token * groups};
}

__m256 one_token(const Rows& rows, uint32_t groups, const Token& x) {
    __m256 acc = _mm256_setzero_ps();
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        __m256 t = _mm256_setzero_ps();
        for (uint32_t j = begin; j < end; ++j) {
            t = multiply_tile(load_tile(rows, size_t{j} * kBlockBytes), x.q + size_t{j} * kGroup, x.scale[j], t);
        }
        acc = _mm256_add_ps(acc, t);
    }
    return acc;
}

// acc[i] for `count` <= kMaxTokens tokens from `first` on.
void many_tokens(const Linear& args, const Rows& rows, uint32_t first, uint32_t count, __m256* acc) {
    const uint32_t groups = args.cols / kGroup;
    for (uint32_t i = 0; i < count; ++i) acc[i] = _mm256_setzero_ps();
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        Tile tiles[kGroupsPerSuperBlock];
        for (uint32_t j = begin; j < end; ++j) tiles[j - begin] = load_tile(rows, size_t{j} * kBlockBytes);
        for (uint32_t i = 0; i < count; ++i) {
            const Token x = token_at(args, first + i);
            __m256 t = _mm256_setzero_ps();
            for (uint32_t j = begin; j < end; ++j) {
                t = multiply_tile(tiles[j - begin], x.q + size_t{j} * kGroup, x.scale[j], t);
            }
            acc[i] = _mm256_add_ps(acc[i], t);
        }
    }
}

Rows rows_at(const Linear& args, uint32_t first, uint32_t count) {
    Rows rows;
    for (uint32_t i = 0; i < kLanes; ++i) {
        rows.row[i] = args.weights + (first + (i < count ? i : count - 1)) * args.row_bytes;
    }
    return rows;
}

}  // namespace

void linear_q8_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    for (uint32_t r = row_begin; r < row_end; r += kLanes) {
        const __m256i mask = lanes_left(r, row_end);
        const Rows rows = rows_at(args, r, row_end - r < kLanes ? row_end - r : kLanes);
        if (args.tokens == 1) {
            _mm256_maskstore_ps(args.y + r, mask, one_token(rows, args.cols / kGroup, token_at(args, 0)));
            continue;
        }
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t count = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            __m256 acc[kMaxTokens];
            many_tokens(args, rows, first, count, acc);
            for (uint32_t i = 0; i < count; ++i) {
                _mm256_maskstore_ps(args.y + size_t{first + i} * args.y_stride + r, mask, acc[i]);
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
        const __m256 scale = _mm256_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + 2 + i));
            const __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            _mm256_storeu_ps(out + size_t{group} * kGroup + i, _mm256_mul_ps(scale, value));
        }
    }
}

}  // namespace driftwood::compute::avx2
