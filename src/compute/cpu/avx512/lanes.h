// Small pieces that the AVX-512 kernels share. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "compute/constants.h"
#include "compute/cpu/float_bits.h"

namespace driftwood::compute::avx512 {

inline constexpr uint32_t kLanes = 16;

namespace {  // each kernel file gets copies of its own

// The first `count` of 16 lanes, count <= 16.
[[maybe_unused]] inline __mmask16 first_lanes(uint32_t count) {
    return static_cast<__mmask16>((uint32_t{1} << count) - 1);
}

// As first_lanes, for what is left of n values from i on.
[[maybe_unused]] inline __mmask16 lanes_left(uint32_t i, uint32_t n) {
    return n - i >= kLanes ? static_cast<__mmask16>(0xFFFF) : first_lanes(n - i);
}

// Rule 1.
[[maybe_unused]] inline __m512i round_int(__m512 x) {
    return _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(x, _mm512_set1_ps(kRoundMagic))),
                            _mm512_set1_epi32(static_cast<int32_t>(kRoundMagicBits)));
}

[[maybe_unused]] inline __m512 round_float(__m512 x) {
    const __m512 magic = _mm512_set1_ps(kRoundMagic);
    return _mm512_sub_ps(_mm512_add_ps(x, magic), magic);
}

[[maybe_unused]] inline __m512i magnitude_bits(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}

// Wraps, as sums of what is not finite may: GCC's _mm512_reduce_add_epi32 adds signed integers, which must not.
[[maybe_unused]] inline int32_t reduce_add(__m512i x) {
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

// Rule 6: EXP.
[[maybe_unused]] inline __m512 exp_lanes(__m512 x) {
    const __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpLow), _CMP_GT_OQ);
    x = _mm512_min_ps(x, _mm512_set1_ps(kExpHigh));
    const __m512 n = round_float(_mm512_mul_ps(x, _mm512_set1_ps(kLog2E)));
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(kLn2High), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(kLn2Low), r);
    __m512 p = _mm512_set1_ps(kExpPoly[0]);
    for (int i = 1; i < 6; ++i) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpPoly[i]));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0F));
    const __m512i exponent = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    return _mm512_maskz_mov_ps(above, _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent)));
}

// Rule 4: the 32 lanes of a block folded into one sum.
[[maybe_unused]] inline float fold(__m512 low, __m512 high) {
    const __m512 sixteen = _mm512_add_ps(low, high);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// What row_lanes.h asks for, but for `largest`.
struct Lanes {
    static constexpr uint32_t kLanes = avx512::kLanes;
    using Float = __m512;

    static Float splat(float x) { return _mm512_set1_ps(x); }
    // Masks are for what is left: whole registers go faster without.
    static Float load_left(const float* x, uint32_t i, uint32_t n) {
        return n - i >= kLanes ? _mm512_loadu_ps(x + i) : _mm512_maskz_loadu_ps(first_lanes(n - i), x + i);
    }
    static void store_left(float* y, uint32_t i, uint32_t n, Float value) {
        if (n - i >= kLanes) return _mm512_storeu_ps(y + i, value);
        _mm512_mask_storeu_ps(y + i, first_lanes(n - i), value);
    }
    static Float keep_left(Float value, uint32_t i, uint32_t n) { return _mm512_maskz_mov_ps(lanes_left(i, n), value); }
    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float divide(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float negate(Float a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F)); }
    static Float exp(Float a) { return exp_lanes(a); }
    static Float one_nan(Float a) {
        return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_set1_ps(__builtin_nanf("")));
    }
    static float fold(const Float lane[2]) { return avx512::fold(lane[0], lane[1]); }
    static float root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace
}  // namespace driftwood::compute::avx512
