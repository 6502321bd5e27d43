// Rule 3: W16 weights times A16 activations, where the sums of a super-block are whole integers of one row and one
// token, so that values are lanes, and digits are widened to 16 bits once for four rows.
//
// Written over `Isa`, what an instruction set brings:
//   kValues                    numbers of 16 bits in a register, 8 or 16
//   Int                        sums of 32 bits
//   zero(), reduce_add(sum)    Int; the sum of its lanes
//   widened(digits)            kValues digits as numbers of 16 bits
//   load(weights)              kValues weights
//   add_products(sum, a, b)    Int, sum plus the products of two such registers
// Each Isa lies in an unnamed namespace, so everything here does too, in effect (see README.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/formats.h"
#include "compute/kernels.h"

namespace driftwood::compute {
namespace {  // each kernel file gets copies of its own

constexpr uint32_t kRowsTogether = 4;

// acc[r] of kRows rows over a super-block of `count` values (a multiple of kGroup).
template <class Isa, uint32_t kRows>
void add_block(const uint8_t* const* blocks, const int8_t* high, const int8_t* low, uint32_t count, float scale,
               float* acc) {
    typename Isa::Int high_sum[kRows];
    typename Isa::Int low_sum[kRows];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kRows; ++r) high_sum[r] = low_sum[r] = Isa::zero();
    for (uint32_t i = 0; i < count; i += Isa::kValues) {
        const auto h = Isa::widened(high + i);
        const auto l = Isa::widened(low + i);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const uint8_t* at = blocks[r] + offsetof(BlockW16, n) + size_t{i} * sizeof(int16_t);
            const auto n = Isa::load(at);
            high_sum[r] = Isa::add_products(high_sum[r], n, h);
            low_sum[r] = Isa::add_products(low_sum[r], n, l);
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kRows; ++r) {
        float weight_scale = 0.0F;
        __builtin_memcpy(&weight_scale, blocks[r], sizeof(weight_scale));
        const float f = __builtin_fmaf(256.0F, static_cast<float>(Isa::reduce_add(high_sum[r])),
                                       static_cast<float>(Isa::reduce_add(low_sum[r])));
        acc[r] = __builtin_fmaf(weight_scale * f, scale, acc[r]);
    }
}

template <class Isa, uint32_t kRows>
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
            add_block<Isa, kRows>(block, args.x.high + at, args.x.low + at, static_cast<uint32_t>(count),
                                  args.x.scale[token * blocks + b], acc);
        }
        for (uint32_t r = 0; r < kRows; ++r) args.y[size_t{token} * args.y_stride + first + r] = acc[r];
    }
}

template <class Isa>
void w16_layer(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    uint32_t r = row_begin;
    for (; r + kRowsTogether <= row_end; r += kRowsTogether) rows_from<Isa, kRowsTogether>(args, r);
    for (; r < row_end; ++r) rows_from<Isa, 1>(args, r);
}

}  // namespace
}  // namespace driftwood::compute
