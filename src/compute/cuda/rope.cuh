// Rules 5 and 7 on the card: a warp turns and quantises one head of one row.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// int16 of (token, d) from the start of a head's part of a block: KvHeadView's, for the card.
__device__ inline size_t k_index(uint32_t head_dim, uint32_t token, uint32_t d) {
    return static_cast<size_t>(token / 32) * head_dim * 32 + d / 2 * 64 + token % 32 * 2 + d % 2;
}
__device__ inline size_t v_index(uint32_t head_dim, uint32_t token, uint32_t d) {
    return static_cast<size_t>(kBlockTokens) * head_dim + (token / 2 * head_dim + d) * 2 + token % 2;
}
__device__ inline size_t scale_index(uint32_t head_dim) { return static_cast<size_t>(head_dim) * kBlockTokens; }

enum class HeadOf : uint8_t { kQuery, kKey, kValue };

// Pairs of dimensions of a head that RoPE turns together; a lane has pairs lane, 32 + lane, ….
__device__ inline uint32_t pair_dim(RopePairs pairs, uint32_t half, uint32_t pair, uint32_t which) {
    return pairs == RopePairs::kAdjacent ? 2 * pair + which : pair + which * half;
}

template <uint32_t kPairs>
struct HeadRow {
    int16_t n[kPairs][2];
    float scale;
    bool finite;
};

// The angles of a lane's pairs at a position.
template <uint32_t kPairs>
struct Angles {
    float c[kPairs], s[kPairs];
};
template <uint32_t kPairs>
__device__ Angles<kPairs> load_angles(const float* cosine, const float* sine, uint32_t half, uint32_t position) {
    Angles<kPairs> angles;
#pragma unroll
    for (uint32_t i = 0; i < kPairs; ++i) {
        const uint32_t pair = i * 32 + threadIdx.x % 32;
        const size_t at = static_cast<size_t>(position) * half + pair;
        angles.c[i] = pair < half ? cosine[at] : 0.0F;
        angles.s[i] = pair < half ? sine[at] : 0.0F;
    }
    return angles;
}

// `value` are the lane's pairs of the head's floats, not yet turned; beyond the head zeros.
template <uint32_t kPairs>
__device__ HeadRow<kPairs> turn_head_row(float (&value)[kPairs][2], const Angles<kPairs>& angles, HeadOf of) {
    uint32_t most = 0;
#pragma unroll
    for (uint32_t i = 0; i < kPairs; ++i) {
        const float a = value[i][0];
        const float b = value[i][1];
        if (of != HeadOf::kValue) {
            value[i][0] = __fmaf_rn(-b, angles.s[i], __fmul_rn(a, angles.c[i]));
            value[i][1] = __fmaf_rn(b, angles.c[i], __fmul_rn(a, angles.s[i]));
        }
        most = max(most, max(magnitude_bits(value[i][0]), magnitude_bits(value[i][1])));
    }
    most = warp_max(most);
    const bool zero = most < __float_as_uint(kTiny);
    const float limit = of == HeadOf::kValue ? kMaxV16 : kMaxQ16;
    const float to_integer = __fdiv_rn(limit, __uint_as_float(most));
    HeadRow<kPairs> made;
    made.scale = zero ? 0.0F : __fdiv_rn(__uint_as_float(most), limit);
    made.finite = most < kInfinityBits;
#pragma unroll
    for (uint32_t i = 0; i < kPairs; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            made.n[i][j] = static_cast<int16_t>(zero ? 0 : round_int(__fmul_rn(value[i][j], to_integer)));
        }
    }
    return made;
}

// x is the head's floats, not yet turned.
template <uint32_t kPairs>
__device__ HeadRow<kPairs> make_head_row(const RopeStore& args, const float* x, HeadOf of, uint32_t position) {
    const uint32_t half = args.sequences.head_dim / 2;
    float value[kPairs][2];
#pragma unroll
    for (uint32_t i = 0; i < kPairs; ++i) {
        const uint32_t pair = i * 32 + threadIdx.x % 32;
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) value[i][j] = pair < half ? x[pair_dim(args.pairs, half, pair, j)] : 0.0F;
    }
    return turn_head_row<kPairs>(value, load_angles<kPairs>(args.cosine, args.sine, half, position), of);
}

// Into a head's part of a block.
template <uint32_t kPairs>
__device__ void store_head_row(RopePairs pairs, uint32_t head_dim, const HeadRow<kPairs>& row, HeadOf of, uint8_t* head,
                               uint32_t token) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t i = 0; i < kPairs; ++i) {
        const uint32_t pair = i * 32 + lane;
        if (pair >= head_dim / 2) continue;
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            const uint32_t d = pair_dim(pairs, head_dim / 2, pair, j);
            const size_t at = of == HeadOf::kKey ? k_index(head_dim, token, d) : v_index(head_dim, token, d);
            reinterpret_cast<int16_t*>(head)[at] = row.n[i][j];
        }
    }
    if (lane != 0) return;
    auto* scales = reinterpret_cast<float*>(head) + scale_index(head_dim);
    scales[of == HeadOf::kKey ? token : kBlockTokens + token] = row.scale;
}

}  // namespace driftwood::compute::cuda
