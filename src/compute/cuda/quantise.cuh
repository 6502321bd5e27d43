// Rules 2 and 4 on the card: activations of all three kinds, and RMSNorm's factor.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// The q of four lanes from this one on, in lanes 0, 4, 8, ….
__device__ inline uint32_t pack_lanes(int32_t q) {
    uint32_t word = static_cast<uint32_t>(q) & 255U;
    word |= __shfl_down_sync(kAllLanes, word, 1) << 8;
    return word | __shfl_down_sync(kAllLanes, word, 2) << 16;
}

// One group of one row, a value per lane; all lanes of the warp take part.
struct Group {
    uint32_t word;  // pack_lanes
    float scale;
    bool finite;
};
__device__ inline Group quantise_group(float x) {
    const uint32_t most = warp_max(magnitude_bits(x));
    const bool zero = most < __float_as_uint(kTiny);
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;
    const int32_t q = min(max(round_int(__fmul_rn(x, power_of_two(-e))), -kMaxA8), kMaxA8);
    return {pack_lanes(zero ? 0 : q), zero ? 0.0F : power_of_two(e), most < kInfinityBits};
}

// One super-block of one row; value j of a lane is of its group j.
template <ActivationKind kKind>
struct SuperBlock {
    uint32_t word[8];
    float scale[kKind == ActivationKind::kA32P ? 8 : 1];
    bool finite;
};
template <ActivationKind kKind>
__device__ SuperBlock<kKind> quantise_super_block(const float (&x)[8]) {
    SuperBlock<kKind> made;
    made.finite = true;
    if constexpr (kKind == ActivationKind::kA32P) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const Group group = quantise_group(x[j]);
            made.word[j] = group.word;
            made.scale[j] = group.scale;
            made.finite &= group.finite;
        }
    } else {
        uint32_t most = 0;
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
        most = warp_max(most);
        const bool zero = most < __float_as_uint(kTiny);
        const float largest = __uint_as_float(most);
        constexpr auto kRange = static_cast<float>(kMaxA8);
        const float to_integer = zero ? 0.0F : __fdiv_rn(kRange, largest);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) made.word[j] = pack_lanes(round_int(__fmul_rn(x[j], to_integer)));
        made.scale[0] = zero ? 0.0F : __fdiv_rn(largest, kRange);
        made.finite = most < kInfinityBits;
    }
    return made;
}

// The same in 16 bits (A16): digits of 8 bits, number = 256 · high + low.
struct SuperBlock16 {
    uint32_t high[8];
    uint32_t low[8];
    float scale;
    bool finite;
};
__device__ inline SuperBlock16 quantise_super_block_16(const float (&x)[8]) {
    uint32_t most = 0;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
    most = warp_max(most);
    const bool zero = most < __float_as_uint(kTiny);
    int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;
    if (round_int(__fmul_rn(__uint_as_float(most), power_of_two(-e))) > kMaxA16) ++e;
    const float to_integer = zero ? 0.0F : power_of_two(-e);
    SuperBlock16 made;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const int32_t a = round_int(__fmul_rn(x[j], to_integer));
        made.high[j] = pack_lanes(static_cast<int32_t>(static_cast<uint32_t>(a) + 128) >> 8);
        made.low[j] = pack_lanes(a);
    }
    made.scale = zero ? 0.0F : power_of_two(e);
    made.finite = most < kInfinityBits;
    return made;
}

__device__ inline void store_word(const Activations& out, uint32_t row, size_t tile, uint32_t word) {
    const uint32_t lane = threadIdx.x % 32;
    if (lane % 4 != 0) return;
    *reinterpret_cast<uint32_t*>(out.q + tile * kTileBytes + activation_byte(row % kTileRows, lane)) = word;
}

__device__ inline void store_scale(const Activations& out, uint32_t row, size_t tile, float scale) {
    if (threadIdx.x % 32 == 0) out.scale[tile * kTileRows + row % kTileRows] = scale;
    if (scale >= kLargeScale) *out.large = 1;
}

// A group (A32P) or super-block written where linear layers read it (layout.h). Return whether all were finite.
__device__ inline bool store_group(const Activations& out, uint32_t row, uint32_t group, uint32_t groups, float x) {
    const Group made = quantise_group(x);
    const size_t tile = static_cast<size_t>(row / kTileRows) * groups + group;
    store_word(out, row, tile, made.word);
    store_scale(out, row, tile, made.scale);
    return made.finite;
}
template <ActivationKind kKind>
__device__ bool store_super_block(const Activations& out, uint32_t row, uint32_t sb, uint32_t super_blocks,
                                  const float (&x)[8]) {
    if constexpr (kKind == ActivationKind::kA16) {
        const SuperBlock16 made = quantise_super_block_16(x);
        const size_t at = static_cast<size_t>(2 * row / kTileRows) * super_blocks + sb;
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            store_word(out, 2 * row, at * 8 + j, made.high[j]);
            store_word(out, 2 * row + 1, at * 8 + j, made.low[j]);
        }
        store_scale(out, 2 * row, at, made.scale);
        store_scale(out, 2 * row + 1, at, made.scale);
        return made.finite;
    }
    const SuperBlock<kKind> made = quantise_super_block<kKind>(x);
    const size_t at = static_cast<size_t>(row / kTileRows) * super_blocks + sb;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        store_word(out, row, at * 8 + j, made.word[j]);
        if constexpr (kKind == ActivationKind::kA32P) store_scale(out, row, at * 8 + j, made.scale[j]);
    }
    if constexpr (kKind != ActivationKind::kA32P) store_scale(out, row, at, made.scale[0]);
    return made.finite;
}

// The sum of squares, in lane 0, of one block of 256 values: value[j] of a lane is of the block's group j.
__device__ inline float warp_squares(const float (&value)[8]) {
    float sum = 0.0F;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) sum = __fmaf_rn(value[j], value[j], sum);
#pragma unroll
    for (uint32_t half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_down_sync(kAllLanes, sum, half));
    return sum;
}

// The same of one block of a row of n, and the lane's values.
__device__ inline float block_of_squares(const float* x, uint32_t n, uint32_t block, float (&value)[8]) {
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t i = block * kSuperBlock + j * 32 + threadIdx.x % 32;
        value[j] = i < n ? x[i] : 0.0F;
    }
    return warp_squares(value);
}

// Adds up the blocks' sums in order; `finite` says whether the sum is.
__device__ inline float norm_factor(const float* block_sum, uint32_t n, float eps, bool& finite) {
    float sum = 0.0F;
#pragma unroll 8
    for (uint32_t block = 0; block < super_blocks_of(n); ++block) sum = __fadd_rn(sum, block_sum[block]);
    finite = magnitude_bits(sum) < kInfinityBits;
    return __fdiv_rn(1.0F, __fsqrt_rn(__fmaf_rn(sum, __fdiv_rn(1.0F, static_cast<float>(n)), eps)));
}

}  // namespace driftwood::compute::cuda
