// Rule 3: Q8_0 weights times A32P activations, with the dot products of 8-bit numbers (SDOT).
//
// Four rows of the matrix are four lanes, so that each lane runs its row's float chain in the contract's order. One
// token sums a group's products in four parts per row and adds the parts of four rows by pairs. For more tokens a
// group of four rows (4 x 8 words of 32 bits) is transposed once: register d then holds word d of every row, and SDOT
// multiplies it by a lane of the activations.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

constexpr uint32_t kBlockBytes = 2 + kGroup;  // f16 scale, 32 int8
constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
constexpr uint32_t kWords = kGroup / 4;
constexpr uint32_t kMaxTokens = 64;  // tokens whose sums are kept while a super-block is in cache

// One group of 4 rows: words[d] has 32-bit word d of each row.
struct Tile {
    int8x16_t words[kWords];
    float32x4_t scale;
};

// Where the 4 rows of a tile lie. Rows past the end repeat the last one.
struct Rows {
    const uint8_t* row[kLanes];
};

struct Token {
    const int8_t* q;
    const float* scale;
};

Token token_at(const Linear& args, uint32_t token) {
    const size_t groups = args.cols / kGroup;
    return {args.x.high + size_t{token} * args.cols, args.x.scale + token * groups};
}

float32x4_t load_scales(const Rows& rows, size_t block_offset) {
    uint16_t half[kLanes];
    for (uint32_t i = 0; i < kLanes; ++i) __builtin_memcpy(half + i, rows.row[i] + block_offset, sizeof(uint16_t));
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half)));
}

int8x16_t load_bytes(const uint8_t* at) { return vreinterpretq_s8_u8(vld1q_u8(at)); }

// Transposes 4 x 4 words: out[d] has word d of the four.
void transpose(const int8x16_t in[4], int8x16_t out[4]) {
    const int32x4_t x0 = vreinterpretq_s32_s8(in[0]);
    const int32x4_t x1 = vreinterpretq_s32_s8(in[1]);
    const int32x4_t x2 = vreinterpretq_s32_s8(in[2]);
    const int32x4_t x3 = vreinterpretq_s32_s8(in[3]);
    const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(x0, x1));  // words 0 and 2 of rows 0 and 1
    const int64x2_t b = vreinterpretq_s64_s32(vtrn2q_s32(x0, x1));
    const int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(x2, x3));
    const int64x2_t d = vreinterpretq_s64_s32(vtrn2q_s32(x2, x3));
    out[0] = vreinterpretq_s8_s64(vtrn1q_s64(a, c));
    out[1] = vreinterpretq_s8_s64(vtrn1q_s64(b, d));
    out[2] = vreinterpretq_s8_s64(vtrn2q_s64(a, c));
    out[3] = vreinterpretq_s8_s64(vtrn2q_s64(b, d));
}

Tile load_tile(const Rows& rows, size_t block_offset) {
    Tile tile;
    for (uint32_t half = 0; half < 2; ++half) {
        int8x16_t in[kLanes];
        for (uint32_t i = 0; i < kLanes; ++i) in[i] = load_bytes(rows.row[i] + block_offset + 2 + size_t{16} * half);
        transpose(in, tile.words + size_t{4} * half);
    }
    tile.scale = load_scales(rows, block_offset);
    return tile;
}

// t = fma(w, float(I) · 2^e, t).
float32x4_t add_group(float32x4_t t, int32x4_t sums, float scale, float32x4_t weight_scale) {
    return vfmaq_f32(t, weight_scale, vmulq_f32(vcvtq_f32_s32(sums), vdupq_n_f32(scale)));
}

int32x4_t multiply_tile(const Tile& tile, const int8_t* q) {
    const int8x16_t front = vld1q_s8(q);
    const int8x16_t back = vld1q_s8(q + 16);
    int32x4_t even = vdotq_laneq_s32(vdupq_n_s32(0), tile.words[0], front, 0);
    int32x4_t odd = vdotq_laneq_s32(vdupq_n_s32(0), tile.words[1], front, 1);
    even = vdotq_laneq_s32(even, tile.words[2], front, 2);
    odd = vdotq_laneq_s32(odd, tile.words[3], front, 3);
    even = vdotq_laneq_s32(even, tile.words[4], back, 0);
    odd = vdotq_laneq_s32(odd, tile.words[5], back, 1);
    even = vdotq_laneq_s32(even, tile.words[6], back, 2);
    odd = vdotq_laneq_s32(odd, tile.words[7], back, 3);
    return vaddq_s32(even, odd);
}

// The same sums without a transposed tile.
int32x4_t multiply_rows(const Rows& rows, size_t block_offset, const int8_t* q) {
    const int8x16_t front = vld1q_s8(q);
    const int8x16_t back = vld1q_s8(q + 16);
    int32x4_t sums[kLanes];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kLanes; ++i) {
        const uint8_t* values = rows.row[i] + block_offset + 2;
        sums[i] = vdotq_s32(vdupq_n_s32(0), load_bytes(values), front);
        sums[i] = vdotq_s32(sums[i], load_bytes(values + 16), back);
    }
    return vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]));
}

float32x4_t one_token(const Rows& rows, uint32_t groups, const Token& x) {
    float32x4_t acc = vdupq_n_f32(0.0F);
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        float32x4_t t = vdupq_n_f32(0.0F);
        for (uint32_t j = begin; j < end; ++j) {
            const size_t offset = size_t{j} * kBlockBytes;
            const int32x4_t sums = multiply_rows(rows, offset, x.q + size_t{j} * kGroup);
            t = add_group(t, sums, x.scale[j], load_scales(rows, offset));
        }
        acc = vaddq_f32(acc, t);
    }
    return acc;
}

// acc[i] for `count` <= kMaxTokens tokens from `first` on.
void many_tokens(const Linear& args, const Rows& rows, uint32_t first, uint32_t count, float32x4_t* acc) {
    const uint32_t groups = args.cols / kGroup;
    for (uint32_t i = 0; i < count; ++i) acc[i] = vdupq_n_f32(0.0F);
    for (uint32_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
        const uint32_t end = groups - begin < kGroupsPerSuperBlock ? groups : begin + kGroupsPerSuperBlock;
        Tile tiles[kGroupsPerSuperBlock];
        for (uint32_t j = begin; j < end; ++j) tiles[j - begin] = load_tile(rows, size_t{j} * kBlockBytes);
        for (uint32_t i = 0; i < count; ++i) {
            const Token x = token_at(args, first + i);
            float32x4_t t = vdupq_n_f32(0.0F);
            for (uint32_t j = begin; j < end; ++j) {
                const Tile& tile = tiles[j - begin];
                t = add_group(t, multiply_tile(tile, x.q + size_t{j} * kGroup), x.scale[j], tile.scale);
            }
            acc[i] = vaddq_f32(acc[i], t);
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
        const Rows rows = rows_at(args, r, row_end - r < kLanes ? row_end - r : kLanes);
        if (args.tokens == 1) {
            store_left(args.y, r, row_end, one_token(rows, args.cols / kGroup, token_at(args, 0)));
            continue;
        }
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t count = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            float32x4_t acc[kMaxTokens];
            many_tokens(args, rows, first, count, acc);
            for (uint32_t i = 0; i < count; ++i) {
                store_left(args.y + size_t{first + i} * args.y_stride, r, row_end, acc[i]);
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
        const float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
        for (uint32_t i = 0; i < kGroup; i += 2 * kLanes) {
            const int16x8_t values = vmovl_s8(vreinterpret_s8_u8(vld1_u8(block + 2 + i)));
            float* to = out + size_t{group} * kGroup + i;
            vst1q_f32(to, vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_low_s16(values)))));
            vst1q_f32(to + kLanes, vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_high_s16(values)))));
        }
    }
}

}  // namespace driftwood::compute::neon
