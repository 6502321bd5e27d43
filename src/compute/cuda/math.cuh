// The elementary functions of the numerics contract (docs/numerics.md) on the card: compute/math.h, operation by
// operation. Compiled with -fmad=false: an fma stands only where it is written.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "compute/constants.h"

namespace driftwood::compute::cuda {

constexpr uint32_t kInfinityBits = 0x7F800000U;
constexpr uint32_t kAllLanes = 0xFFFFFFFFU;

__device__ inline uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7FFFFFFFU; }
__device__ inline float round_float(float x) { return __fsub_rn(__fadd_rn(x, kRoundMagic), kRoundMagic); }
__device__ inline int32_t round_int(float x) {
    return static_cast<int32_t>(__float_as_uint(__fadd_rn(x, kRoundMagic)) - kRoundMagicBits);
}
// 2^n for -126 <= n <= 127, 0 below.
__device__ inline float power_of_two(int32_t n) {
    return n < -126 ? 0.0F : __uint_as_float(static_cast<uint32_t>(n + 127) << 23);
}

__device__ inline float exp_f32(float x) {
    constexpr float c0 = kExpPoly[0], c1 = kExpPoly[1], c2 = kExpPoly[2];
    constexpr float c3 = kExpPoly[3], c4 = kExpPoly[4], c5 = kExpPoly[5];
    if (!(x > kExpLow)) return 0.0F;
    x = x < kExpHigh ? x : kExpHigh;
    const float n = round_float(__fmul_rn(x, kLog2E));
    float r = __fmaf_rn(n, kLn2High, x);
    r = __fmaf_rn(n, kLn2Low, r);
    float p = c0;
    p = __fmaf_rn(p, r, c1);
    p = __fmaf_rn(p, r, c2);
    p = __fmaf_rn(p, r, c3);
    p = __fmaf_rn(p, r, c4);
    p = __fmaf_rn(p, r, c5);
    p = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0F);
    return __uint_as_float(__float_as_uint(p) + (static_cast<uint32_t>(static_cast<int32_t>(n)) << 23));
}

__device__ inline float silu(float g) { return __fdiv_rn(g, __fadd_rn(1.0F, exp_f32(-g))); }

__device__ inline float exp2_attention(float x) {
    constexpr float c0 = kExp2Poly[0], c1 = kExp2Poly[1], c2 = kExp2Poly[2], c3 = kExp2Poly[3], c4 = kExp2Poly[4];
    const float y = __fadd_rn(x, kRoundMagic);
    const float f = __fsub_rn(x, __fsub_rn(y, kRoundMagic));
    float p = c0;
    p = __fmaf_rn(p, f, c1);
    p = __fmaf_rn(p, f, c2);
    p = __fmaf_rn(p, f, c3);
    p = __fmaf_rn(p, f, c4);
    return __uint_as_float(__float_as_uint(p) + (__float_as_uint(y) << 23));
}

// The sum of all lanes' integers, in every lane.
__device__ inline int32_t warp_sum(int32_t x) { return __reduce_add_sync(kAllLanes, x); }
__device__ inline uint32_t warp_max(uint32_t x) { return __reduce_max_sync(kAllLanes, x); }
// The exact maximum of all lanes' floats, in every lane; which of two zeros does not matter to any caller.
__device__ inline float warp_max(float x) {
    for (uint32_t step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, x, step);
        x = x < other ? other : x;
    }
    return x;
}

}  // namespace driftwood::compute::cuda
