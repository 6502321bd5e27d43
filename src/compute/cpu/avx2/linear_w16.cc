// Rule 3: W16 weights times A16 activations. The sums of a super-block are whole integers of one row and one token, so
// values are lanes here: VPMADDWD multiplies pairs of weights by pairs of digits, widened to 16 bits once for four
// rows.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/formats.h"

namespace driftwood::compute::avx2 {

namespace {

constexpr uint32_t kRowsTogether = 4;

__m256i widened(const int8_t* digits) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(digits)));
}

__m256i add_products(__m256i sum, __m256i a, __m256i b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

// acc[r] of kRows rows over a super-block of `count` values (a multiple of 16).
template <uint32_t kRows>
void add_block(const uint8_t* const* blocks, const int8_t* high, const int8_t* low, uint32_t count, float scale,
               float* acc) {
    __m256i high_sum[kRows];
    __m256i low_sum[kRows];
    for (uint32_t r = 0; r < kRows; ++r) high_sum[r] = low_sum[r] = _mm256_setzero_si256();
    for (uint32_t i = 0; i < count; i += 2 * kLanes) {
        const __m256i h = widened(high + i);
        const __m256i l = widened(low + i);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const uint8_t* at = blocks[r] + offsetof(BlockW16, n) + size_t{i} * sizeof(int16_t);
            const __m256i n = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
            high_sum[r] = add_products(high_sum[r], n, h);
            low_sum[r] = add_products(low_sum[r], n, l);
        }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        float weight_scale = 0.0F;
        __builtin_memcpy(&weight_scale, blocks[r], sizeof(weight_scale));
        const float f = __builtin_fmaf(256.0F, static_cast<float>(reduce_add(high_sum[r])),
                                       static_cast<float>(reduce_add(low_sum[r])));
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

}  // namespace driftwood::compute::avx2
