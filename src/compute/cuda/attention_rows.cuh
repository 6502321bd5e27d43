// What the kernels of attention over prompts share: a quad of lanes has two rows of 16 queries, and of each of a
// chunk's 8 tiles of keys the two that an mma or wgmma gave it.
#pragma once

#include "compute/cuda/attention.cuh"

namespace driftwood::compute::cuda {

// What a lane knows of its two rows (g and g + 8 of the warp's 16).
struct Row {
    uint32_t row = 0;  // of the pass
    uint32_t head = 0;
    uint32_t visible = 0;  // 0: no query
    float cq = 0.0F;
    float max = kFirstMax;
    float sum = 0.0F;
};

__device__ inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
    return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ inline uint32_t quad_sum(uint32_t x) {
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// How a chunk's sums join a row's outputs.
struct Merge {
    float al;
    float unit;
};

// A lane's part of one row of a chunk: in u scores come in, weights' bits go out. A row without a query may hold
// anything.

template <bool kMasked>
__device__ inline Merge weigh(float (&u)[8][2], Row& row, uint32_t first_key, const float* v_scale,
                              const Attention& args) {
    const uint32_t t = threadIdx.x % 4;
    float most = -INFINITY;
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            if (!kMasked || first_key + tile * 8 + 2 * t + i < row.visible) most = fmaxf(most, u[tile][i]);
        }
    }
    most = quad_max(most);
    const float c = __fmul_rn(most, row.cq);
    const float m = chunk_max(c);
    uint32_t l = 0;
    float largest = 0.0F;
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
        const float2 vs = *reinterpret_cast<const float2*>(v_scale + tile * 8 + 2 * t);
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const float x = __fmaf_rn(u[tile][i], row.cq, -m);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            float w = __fmul_rn(p, i == 0 ? vs.x : vs.y);
            // One rounding, as the product with a power of two is exact: IRINT(p · 2^20).
            uint32_t part = __float_as_uint(__fmaf_rn(p, kWeightScale, kRoundMagic));
            if (kMasked && first_key + tile * 8 + 2 * t + i >= row.visible) {
                w = 0.0F;
                part = kRoundMagicBits;
            }
            l += part;
            largest = fmaxf(largest, w);
            u[tile][i] = w;
        }
    }
    l = quad_sum(l - 16 * kRoundMagicBits);
    largest = quad_max(largest);
    if (first_key < row.visible && !in_range(c, largest)) atomicMin(args.fault + row.row, args.code);
    const WeightUnit unit = weight_unit(largest);
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) u[tile][i] = __fmaf_rn(u[tile][i], unit.inv, kRoundMagic);
    }
    // A chunk of which a row sees nothing must not be merged: it adds 0 · -0 to what is there, which changes no bit.
    if (kMasked && first_key >= row.visible) return {1.0F, -0.0F};
    const float new_max = fmaxf(row.max, m);
    const float al = power_of_two(static_cast<int32_t>(__fsub_rn(row.max, new_max)));
    const auto be_exponent = static_cast<int32_t>(__fsub_rn(m, new_max));
    row.sum = __fmaf_rn(static_cast<float>(static_cast<int32_t>(l)), power_of_two(be_exponent), __fmul_rn(row.sum, al));
    row.max = new_max;
    return {al, unit_value(unit.exponent, be_exponent)};
}

// Weights lie in the low 16 bits of the floats that rounding made.
__device__ inline void planes(const float (&u0)[8][2], const float (&u8)[8][2], WeightPlanes& w) {
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            const float(&u)[8][2] = word % 2 == 0 ? u0 : u8;
            const uint32_t tile = step * 4 + word / 2 * 2;
            const uint32_t a = __byte_perm(__float_as_uint(u[tile][0]), __float_as_uint(u[tile][1]), 0x5410);
            const uint32_t b = __byte_perm(__float_as_uint(u[tile + 1][0]), __float_as_uint(u[tile + 1][1]), 0x5410);
            w.low[step][word] = low_bytes(a, b);
            w.high[step][word] = high_bytes(a, b);
        }
    }
}

}  // namespace driftwood::compute::cuda
