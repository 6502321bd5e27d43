// IEEE binary16 → binary32 in plain integer code: exact, no instruction-set extension, no rounding mode.
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

inline bool half_is_finite(uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

}  // namespace driftwood::compute
