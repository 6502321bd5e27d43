// The elementary functions of the numerics contract (docs/numerics.md), scalar. They define the bits; whoever samples,
// gates or normalises outside a kernel uses these. Pure functions, any thread; the floating-point environment is the
// default one (fp_environment.h).
//
// Not for files that are compiled for more than the base instruction set: their copies of these inline functions could
// be the ones the linker keeps.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "compute/constants.h"

namespace driftwood::compute {

inline uint32_t float_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float bits_float(uint32_t bits) { return std::bit_cast<float>(bits); }

// Rule 1. The nearest integer, ties to even, as a float or as an int32. Precondition: |x| < 2^22 (any other x gives
// some value, without undefined behaviour).
inline float round_float(float x) { return (x + kRoundMagic) - kRoundMagic; }
inline int32_t round_int(float x) { return static_cast<int32_t>(float_bits(x + kRoundMagic) - kRoundMagicBits); }

// 2^n for -126 <= n <= 127, 0 below.
inline float power_of_two(int32_t n) { return n < -126 ? 0.0F : bits_float(static_cast<uint32_t>(n + 127) << 23); }

inline bool is_finite(float x) { return (float_bits(x) & 0x7FFFFFFFU) < 0x7F800000U; }

// Rule 6. e^x; 0 for x <= -87 and NaN; e^88 for larger x. Relative error below 2^-22.
inline float exp_f32(float x) {
    if (!(x > kExpLow)) return 0.0F;
    x = x < kExpHigh ? x : kExpHigh;
    const float n = round_float(x * kLog2E);
    float r = std::fma(n, kLn2High, x);
    r = std::fma(n, kLn2Low, r);
    float p = kExpPoly[0];
    for (int i = 1; i < 6; ++i) p = std::fma(p, r, kExpPoly[i]);
    p = std::fma(p, r * r, r) + 1.0F;
    return bits_float(float_bits(p) + (static_cast<uint32_t>(static_cast<int32_t>(n)) << 23));
}

// Rule 6. g · sigmoid(g).
inline float silu(float g) { return g / (1.0F + exp_f32(-g)); }

// Rule 7. 2^x for -64 <= x < 1, as attention uses it.
inline float exp2_attention(float x) {
    const float y = x + kRoundMagic;
    const float f = x - (y - kRoundMagic);
    float p = kExp2Poly[0];
    for (int i = 1; i < 5; ++i) p = std::fma(p, f, kExp2Poly[i]);
    return bits_float(float_bits(p) + (float_bits(y) << 23));
}

// Rule 4's order for any sum: blocks of 256; lane l adds x[l + 32 j], j = 0..7, from +0; lanes fold +16, +8, +4, +2,
// +1; blocks add one after another. Missing values of a short last block are +0.
float ordered_sum(std::span<const float> x);

// The same order for squares: lane l chains fma(x, x, ·).
float ordered_sum_of_squares(std::span<const float> x);

}  // namespace driftwood::compute
