// Small pieces that the NEON kernels share. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/cpu/float_bits.h"

namespace driftwood::compute::neon {

inline constexpr uint32_t kLanes = 4;

namespace {  // each kernel file gets copies of its own

// The first lanes of what is left of n values from i on; +0 in the others.
[[maybe_unused]] inline float32x4_t load_left(const float* x, uint32_t i, uint32_t n) {
    if (n - i >= kLanes) return vld1q_f32(x + i);
    float last[kLanes] = {};
    for (uint32_t l = 0; l < n - i; ++l) last[l] = x[i + l];
    return vld1q_f32(last);
}

[[maybe_unused]] inline void store_left(float* y, uint32_t i, uint32_t n, float32x4_t value) {
    if (n - i >= kLanes) {
        vst1q_f32(y + i, value);
        return;
    }
    float last[kLanes];
    vst1q_f32(last, value);
    for (uint32_t l = 0; l < n - i; ++l) y[i + l] = last[l];
}

// Rule 1.
[[maybe_unused]] inline int32x4_t round_int(float32x4_t x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vaddq_f32(x, vdupq_n_f32(kRoundMagic)));
    return vreinterpretq_s32_u32(vsubq_u32(bits, vdupq_n_u32(kRoundMagicBits)));
}

[[maybe_unused]] inline float32x4_t round_float(float32x4_t x) {
    const float32x4_t magic = vdupq_n_f32(kRoundMagic);
    return vsubq_f32(vaddq_f32(x, magic), magic);
}

// Every NaN as 0x7FC00000.
[[maybe_unused]] inline float32x4_t one_nan(float32x4_t x) {
    return vbslq_f32(vceqq_f32(x, x), x, vdupq_n_f32(__builtin_nanf("")));
}

[[maybe_unused]] inline uint32x4_t magnitude_bits(float32x4_t x) {
    return vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7FFFFFFFU));
}

// Rule 6: EXP.
[[maybe_unused]] inline float32x4_t exp_lanes(float32x4_t x) {
    const uint32x4_t above = vcgtq_f32(x, vdupq_n_f32(kExpLow));
    x = vminq_f32(x, vdupq_n_f32(kExpHigh));
    const float32x4_t n = round_float(vmulq_f32(x, vdupq_n_f32(kLog2E)));
    float32x4_t r = vfmaq_f32(x, n, vdupq_n_f32(kLn2High));
    r = vfmaq_f32(r, n, vdupq_n_f32(kLn2Low));
    float32x4_t p = vdupq_n_f32(kExpPoly[0]);
    for (int i = 1; i < 6; ++i) p = vfmaq_f32(vdupq_n_f32(kExpPoly[i]), p, r);
    p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0F));
    const uint32x4_t exponent = vreinterpretq_u32_s32(vshlq_n_s32(vcvtq_s32_f32(n), 23));
    return vreinterpretq_f32_u32(vandq_u32(above, vaddq_u32(vreinterpretq_u32_f32(p), exponent)));
}

// Rule 4: the 32 lanes of a block, in eight registers, folded into one sum.
[[maybe_unused]] inline float fold(const float32x4_t lane[8]) {
    float32x4_t eight[2];
    for (uint32_t i = 0; i < 2; ++i) {
        eight[i] = vaddq_f32(vaddq_f32(lane[i], lane[i + 4]), vaddq_f32(lane[i + 2], lane[i + 6]));
    }
    const float32x4_t four = vaddq_f32(eight[0], eight[1]);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

// What row_lanes.h asks for, but for `largest`.
struct Lanes {
    static constexpr uint32_t kLanes = neon::kLanes;
    using Float = float32x4_t;

    static Float splat(float x) { return vdupq_n_f32(x); }
    static Float load_left(const float* x, uint32_t i, uint32_t n) { return neon::load_left(x, i, n); }
    static void store_left(float* y, uint32_t i, uint32_t n, Float value) { neon::store_left(y, i, n, value); }
    static Float keep_left(Float value, uint32_t i, uint32_t n) {
        if (n - i >= kLanes) return value;
        float all[kLanes];
        vst1q_f32(all, value);
        return neon::load_left(all, 0, n - i);
    }
    static Float add(Float a, Float b) { return vaddq_f32(a, b); }
    static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
    static Float divide(Float a, Float b) { return vdivq_f32(a, b); }
    static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float negate(Float a) { return vnegq_f32(a); }
    static Float exp(Float a) { return exp_lanes(a); }
    static Float one_nan(Float a) { return neon::one_nan(a); }
    static float fold(const Float lane[8]) { return neon::fold(lane); }
    static float root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
};

}  // namespace
}  // namespace driftwood::compute::neon
