// Small pieces that the AVX2 kernels share. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/cpu/float_bits.h"

namespace driftwood::compute::avx2 {

inline constexpr uint32_t kLanes = 8;

namespace {  // each kernel file gets copies of its own

// All ones in the first lanes of what is left of n values from i on.
[[maybe_unused]] inline __m256i lanes_left(uint32_t i, uint32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n - i < kLanes ? n - i : kLanes)), lane);
}

// Rule 1.
[[maybe_unused]] inline __m256i round_int(__m256 x) {
    return _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(x, _mm256_set1_ps(kRoundMagic))),
                            _mm256_set1_epi32(static_cast<int32_t>(kRoundMagicBits)));
}

[[maybe_unused]] inline __m256 round_float(__m256 x) {
    const __m256 magic = _mm256_set1_ps(kRoundMagic);
    return _mm256_sub_ps(_mm256_add_ps(x, magic), magic);
}

[[maybe_unused]] inline __m256i magnitude_bits(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF));
}

// Of 8 lanes: the largest unsigned number, the largest float (none of them NaN), the sum.
[[maybe_unused]] inline uint32_t reduce_max(__m256i x) {
    __m128i most = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4E));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xB1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(most));
}

[[maybe_unused]] inline float reduce_max(__m256 x) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_shuffle_ps(most, most, 1)));
}

[[maybe_unused]] inline int32_t reduce_add(__m256i x) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

// Rule 6: EXP.
[[maybe_unused]] inline __m256 exp_lanes(__m256 x) {
    const __m256 above = _mm256_cmp_ps(x, _mm256_set1_ps(kExpLow), _CMP_GT_OQ);
    x = _mm256_min_ps(x, _mm256_set1_ps(kExpHigh));
    const __m256 n = round_float(_mm256_mul_ps(x, _mm256_set1_ps(kLog2E)));
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(kLn2High), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(kLn2Low), r);
    __m256 p = _mm256_set1_ps(kExpPoly[0]);
    for (int i = 1; i < 6; ++i) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpPoly[i]));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0F));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_and_ps(above, _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent)));
}

// Rule 4: the 32 lanes of a block, in four registers, folded into one sum.
[[maybe_unused]] inline float fold(const __m256 lane[4]) {
    const __m256 eight = _mm256_add_ps(_mm256_add_ps(lane[0], lane[2]), _mm256_add_ps(lane[1], lane[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// What row_lanes.h asks for, but for `largest`.
struct Lanes {
    static constexpr uint32_t kLanes = avx2::kLanes;
    using Float = __m256;

    static Float splat(float x) { return _mm256_set1_ps(x); }
    // Masks are for what is left: stores with them take many times as long on some processors.
    static Float load_left(const float* x, uint32_t i, uint32_t n) {
        return n - i >= kLanes ? _mm256_loadu_ps(x + i) : _mm256_maskload_ps(x + i, lanes_left(i, n));
    }
    static void store_left(float* y, uint32_t i, uint32_t n, Float value) {
        if (n - i >= kLanes) return _mm256_storeu_ps(y + i, value);
        _mm256_maskstore_ps(y + i, lanes_left(i, n), value);
    }
    static Float keep_left(Float value, uint32_t i, uint32_t n) {
        return n - i >= kLanes ? value : _mm256_and_ps(value, _mm256_castsi256_ps(lanes_left(i, n)));
    }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float divide(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float negate(Float a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0F)); }
    static Float exp(Float a) { return exp_lanes(a); }
    static Float one_nan(Float a) {
        return _mm256_blendv_ps(a, _mm256_set1_ps(__builtin_nanf("")), _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    }
    static float fold(const Float lane[4]) { return avx2::fold(lane); }
    static float root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace
}  // namespace driftwood::compute::avx2
