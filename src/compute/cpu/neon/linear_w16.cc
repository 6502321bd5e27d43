// Rule 3: W16 weights times A16 activations. The sums of a super-block are whole integers of one row and one token, so
// values are lanes here: SMLAL multiplies weights by digits, widened to 16 bits once for four rows.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"
#include "compute/formats.h"

namespace driftwood::compute::neon {

namespace {

constexpr uint32_t kRowsTogether = 4;

int32x4_t add_products(int32x4_t sum, int16x8_t a, int16x8_t b) {
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b);
}

// acc[r] of kRows rows over a super-block of `count` values (a multiple of 8).
template <uint32_t kRows>
void add_block(const uint8_t* const* blocks, const int8_t* high, const int8_t* low, uint32_t count, float scale,
               float* acc) {
    int32x4_t high_sum[kRows];
    int32x4_t low_sum[kRows];
    for (uint32_t r = 0; r < kRows; ++r) high_sum[r] = low_sum[r] = vdupq_n_s32(0);
    for (uint32_t i = 0; i < count; i += 8) {
        const int16x8_t h = vmovl_s8(vld1_s8(high + i));
        const int16x8_t l = vmovl_s8(vld1_s8(low + i));
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const uint8_t* at = blocks[r] + offsetof(BlockW16, n) + size_t{i} * sizeof(int16_t);
            const int16x8_t n = vreinterpretq_s16_u8(vld1q_u8(at));
            high_sum[r] = add_products(high_sum[r], n, h);
            low_sum[r] = add_products(low_sum[r], n, l);
        }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        float weight_scale = 0.0F;
        __builtin_memcpy(&weight_scale, blocks[r], sizeof(weight_scale));
        const float f = __builtin_fmaf(256.0F, static_cast<float>(vaddvq_s32(high_sum[r])),
                                       static_cast<float>(vaddvq_s32(low_sum[r])));
        acc[r] = __builtin_fmaf(weight_scale * f, scale, acc[r]);
    }
}

template <uint32_t kRows>
void rows_from(const Linear& args, uint32_t first) {
    const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    for (uint32_t token = 0; token < args.tokens; ++token) {
        float acc[kRows] = {};
        for (size_t b = 0; b < blocks; ++b) {
            const uint8_t* block[kRows];
            for (uint32_t r = 0; r < kRows; ++r) {
                block[r] = args.weights + (first + r) * args.row_bytes + b * sizeof(BlockW16);
            }
            const size_t begin = b * kSuperBlock;
            const size_t count = args.cols - begin < kSuperBlock ? args.cols - begin : kSuperBlock;
            const size_t at = size_t{token} * args.cols + begin;
            add_block<kRows>(block, args.x.high + at, args.x.low + at, static_cast<uint32_t>(count),
                             args.x.scale[token * blocks + b], acc);
        }
        for (uint32_t r = 0; r < kRows; ++r) args.y[size_t{token} * args.y_stride + first + r] = acc[r];
    }
}

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    uint32_t r = row_begin;
    for (; r + kRowsTogether <= row_end; r += kRowsTogether) rows_from<kRowsTogether>(args, r);
    for (; r < row_end; ++r) rows_from<1>(args, r);
}

}  // namespace driftwood::compute::neon
