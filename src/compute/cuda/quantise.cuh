// Rule 2 on the card: activations in 8 bits, written where linear layers read them (layout.h).
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// One group of one row, a value per lane (A32P). All lanes of the warp take part. Returns whether all were finite.
__device__ inline bool store_group(const Activations& out, uint32_t row, uint32_t group, uint32_t groups, float x) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t most = warp_max(magnitude_bits(x));
    const bool zero = most < __float_as_uint(kTiny);
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;
    int32_t q = round_int(__fmul_rn(x, power_of_two(-e)));
    q = zero ? 0 : min(max(q, -kMaxA8), kMaxA8);
    uint32_t word = static_cast<uint32_t>(q) & 255U;
    word |= __shfl_down_sync(kAllLanes, word, 1) << 8;
    word |= __shfl_down_sync(kAllLanes, word, 2) << 16;
    const size_t tile = static_cast<size_t>(row / kTileRows) * groups + group;
    if (lane % 4 == 0) {
        *reinterpret_cast<uint32_t*>(out.q + tile * kTileBytes + activation_byte(row % kTileRows, lane)) = word;
    }
    if (lane == 0) out.scale[tile * kTileRows + row % kTileRows] = zero ? 0.0F : power_of_two(e);
    return most < kInfinityBits;
}

}  // namespace driftwood::compute::cuda
