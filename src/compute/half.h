// 16-bit floats in plain integer code: no instruction-set extension, no rounding mode. To binary32 is exact; from it
// rounds to nearest, ties to even, and every NaN becomes the same one.
#pragma once

#include <bit>
#include <cstdint>

namespace driftwood::compute {

inline float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000U} << 16;
    const uint32_t exponent = (half >> 10) & 0x1FU;
    const uint32_t mantissa = half & 0x3FFU;
    if (exponent == 0) {  // zero and subnormals: mantissa · 2^-24, always exact and normal in binary32
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

inline uint16_t float_to_half(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
    const uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return 0x7E00;
    if (magnitude >= 0x477FF000U) return sign | 0x7C00U;  // from 65520 on, half-way to 2^16, all is infinite
    // What is kept is value >> shift, rounded; below 2^-14 in units of 2^-24.
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return sign;  // below 2^-25
    const bool subnormal = exponent < 113;
    const uint32_t value = subnormal ? (magnitude & 0x7FFFFFU) | 0x800000U : magnitude - (uint32_t{112} << 23);
    const uint32_t shift = subnormal ? 126 - exponent : 13;
    const uint32_t half = uint32_t{1} << (shift - 1);
    const uint32_t odd = (value >> shift) & 1U;
    return static_cast<uint16_t>(sign | ((value + half - 1 + odd) >> shift));
}

inline float bf16_to_float(uint16_t bf16) { return std::bit_cast<float>(uint32_t{bf16} << 16); }

inline uint16_t float_to_bf16(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return 0x7FC0;
    return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

inline bool half_is_finite(uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

}  // namespace driftwood::compute
