// Floats and their bits, one at a time, for the kernels of every instruction set.
#pragma once

#include <cstdint>

namespace driftwood::compute {

inline constexpr uint32_t kInfinityBits = 0x7F800000U;

namespace {  // each kernel file gets copies of its own

[[maybe_unused]] inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
[[maybe_unused]] inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// 2^n for -126 <= n <= 127, 0 below.
[[maybe_unused]] inline float power_of_two(int32_t n) {
    return n < -126 ? 0.0F : float_of(static_cast<uint32_t>(n + 127) << 23);
}

}  // namespace
}  // namespace driftwood::compute
