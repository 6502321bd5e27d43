// Rules 2 and 4 on the card: activations in 8 bits (A32P), and RMSNorm's factor.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// One group of one row, a value per lane; all lanes of the warp take part.
struct Group {
    uint32_t word;  // in lanes 0, 4, 8, …: the q of four lanes from this one on
    float scale;
    bool finite;
};
__device__ inline Group quantise_group(float x) {
    const uint32_t most = warp_max(magnitude_bits(x));
    const bool zero = most < __float_as_uint(kTiny);
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;
    int32_t q = round_int(__fmul_rn(x, power_of_two(-e)));
    q = zero ? 0 : min(max(q, -kMaxA8), kMaxA8);
    uint32_t word = static_cast<uint32_t>(q) & 255U;
    word |= __shfl_down_sync(kAllLanes, word, 1) << 8;
    word |= __shfl_down_sync(kAllLanes, word, 2) << 16;
    return {word, zero ? 0.0F : power_of_two(e), most < kInfinityBits};
}

// The same, written where linear layers read it (layout.h). Returns whether all were finite.
__device__ inline bool store_group(const Activations& out, uint32_t row, uint32_t group, uint32_t groups, float x) {
    const uint32_t lane = threadIdx.x % 32;
    const Group made = quantise_group(x);
    const size_t tile = static_cast<size_t>(row / kTileRows) * groups + group;
    if (lane % 4 == 0) {
        *reinterpret_cast<uint32_t*>(out.q + tile * kTileBytes + activation_byte(row % kTileRows, lane)) = made.word;
    }
    if (lane == 0) out.scale[tile * kTileRows + row % kTileRows] = made.scale;
    if (made.scale >= kLargeScale) *out.large = 1;
    return made.finite;
}

// The sum of squares, in lane 0, of one block of 256 values of a row of n, and the lane's values: value[j] is of the
// block's group j.
__device__ inline float block_of_squares(const float* x, uint32_t n, uint32_t block, float (&value)[8]) {
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t i = block * kSuperBlock + j * 32 + threadIdx.x % 32;
        value[j] = i < n ? x[i] : 0.0F;
    }
    float sum = 0.0F;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) sum = __fmaf_rn(value[j], value[j], sum);
#pragma unroll
    for (uint32_t half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_down_sync(kAllLanes, sum, half));
    return sum;
}

// Adds up the blocks' sums in order; `finite` says whether the sum is.
__device__ inline float norm_factor(const float* block_sum, uint32_t n, float eps, bool& finite) {
    float sum = 0.0F;
    for (uint32_t block = 0; block < super_blocks_of(n); ++block) sum = __fadd_rn(sum, block_sum[block]);
    finite = magnitude_bits(sum) < kInfinityBits;
    return __fdiv_rn(1.0F, __fsqrt_rn(__fmaf_rn(sum, __fdiv_rn(1.0F, static_cast<float>(n)), eps)));
}

}  // namespace driftwood::compute::cuda
