// What NEON with dot products brings to compute/cpu/weight_lanes.h and linear_lanes.h: 4 rows of a matrix. Internal
// linkage.
#pragma once

#include "compute/cpu/linear_lanes.h"
#include "compute/cpu/neon/lanes.h"

namespace driftwood::compute::neon {

namespace {

struct Isa {
    static constexpr uint32_t kRows = kLanes;
    static constexpr bool kSignedBytes = true;
    using Int = int32x4_t;
    using Float = float32x4_t;
    using Rows = RowsOf<Isa>;

    static Int set(int32_t x) { return vdupq_n_s32(x); }
    static Int both(Int a, Int b) { return vandq_s32(a, b); }
    static Int either(Int a, Int b) { return vorrq_s32(a, b); }
    static Int add(Int a, Int b) { return vaddq_s32(a, b); }
    static Int multiply(Int a, Int b) { return vmulq_s32(a, b); }
    static Int subtract_bytes(Int a, Int b) {
        return vreinterpretq_s32_s8(vsubq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
    }
    // Shifts by a register: to the right where it is negative.
    static Int right(Int a, uint32_t n) {
        return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-static_cast<int32_t>(n))));
    }
    static Int left(Int a, uint32_t n) { return vshlq_s32(a, vdupq_n_s32(static_cast<int32_t>(n))); }
    static Int right_signed(Int a, uint32_t n) { return vshlq_s32(a, vdupq_n_s32(-static_cast<int32_t>(n))); }
    static Float to_float(Int a) { return vcvtq_f32_s32(a); }
    static Float splat(float x) { return vdupq_n_f32(x); }
    static Float add(Float a, Float b) { return vaddq_f32(a, b); }
    static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
    static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float fms(Float a, Float b, Float c) { return vfmaq_f32(vnegq_f32(c), a, b); }
    static void store(float* y, uint32_t count, Float x) { store_left(y, 0, count, x); }

    static Float low_half(Int words) {
        return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(words))));
    }

    static Int load_word(const Rows& rows, size_t at) {
        int32_t words[kRows];
        for (uint32_t i = 0; i < kRows; ++i) __builtin_memcpy(words + i, rows.row[i] + at, sizeof(int32_t));
        return vld1q_s32(words);
    }

    static void load_words(const Rows& rows, size_t at, Int out[4]) {
        const auto sixteen = [&](uint32_t row) { return vreinterpretq_s32_u8(vld1q_u8(rows.row[row] + at)); };
        const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(sixteen(0), sixteen(1)));  // words 0 and 2
        const int64x2_t b = vreinterpretq_s64_s32(vtrn2q_s32(sixteen(0), sixteen(1)));
        const int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(sixteen(2), sixteen(3)));
        const int64x2_t d = vreinterpretq_s64_s32(vtrn2q_s32(sixteen(2), sixteen(3)));
        out[0] = vreinterpretq_s32_s64(vtrn1q_s64(a, c));
        out[1] = vreinterpretq_s32_s64(vtrn1q_s64(b, d));
        out[2] = vreinterpretq_s32_s64(vtrn2q_s64(a, c));
        out[3] = vreinterpretq_s32_s64(vtrn2q_s64(b, d));
    }

    // 16 values: SDOT multiplies a register of weights by a lane of activations. All products of signed bytes are
    // exact.
    static void dot_16(const Int* words, const int8_t* q, Int& even, Int& odd) {
        const int8x16_t digits = vld1q_s8(q);
        even = vdotq_laneq_s32(even, vreinterpretq_s8_s32(words[0]), digits, 0);
        odd = vdotq_laneq_s32(odd, vreinterpretq_s8_s32(words[1]), digits, 1);
        even = vdotq_laneq_s32(even, vreinterpretq_s8_s32(words[2]), digits, 2);
        odd = vdotq_laneq_s32(odd, vreinterpretq_s8_s32(words[3]), digits, 3);
    }

    template <WeightType kType, ActivationKind kKind, uint32_t kWords>
    static Int dot(const Int* words, const int8_t* q) {
        Int even = vdupq_n_s32(0);
        Int odd = vdupq_n_s32(0);
        dot_16(words, q, even, odd);
        if constexpr (kWords == 8) dot_16(words + 4, q + 16, even, odd);
        return vaddq_s32(even, odd);
    }
};

}  // namespace
}  // namespace driftwood::compute::neon
