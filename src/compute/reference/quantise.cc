// Rule 2 (A32P) and the row quantisation of rule 7.
#include <algorithm>

#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

// The largest magnitude, as bits: for floats without sign the order of the bits is the order of the numbers, with
// infinity and then the NaNs at the top, so one maximum also finds what is not finite.
uint32_t max_magnitude_bits(const float* x, uint32_t n) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; ++i) most = std::max(most, float_bits(x[i]) & 0x7FFFFFFFU);
    return most;
}

constexpr uint32_t kInfinityBits = 0x7F800000U;

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, int8_t* q, float* scale, int32_t* sum) {
    bool finite = true;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const float* values = x + group * kGroup;
        int8_t* out = q + group * kGroup;
        const uint32_t most = max_magnitude_bits(values, kGroup);
        finite = finite && most < kInfinityBits;
        scale[group] = 0.0F;
        sum[group] = 0;
        if (most < float_bits(kTiny)) {
            std::fill_n(out, kGroup, int8_t{0});
            continue;
        }
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const float to_integer = power_of_two(-e);
        for (uint32_t i = 0; i < kGroup; ++i) {
            const int32_t value = std::clamp(round_int(values[i] * to_integer), -kMaxA8, kMaxA8);
            out[i] = static_cast<int8_t>(value);
            sum[group] += value;
        }
        scale[group] = power_of_two(e);
    }
    return finite;
}

bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    const uint32_t most = max_magnitude_bits(x, n);
    if (most < float_bits(kTiny)) {
        std::fill_n(q, n, int16_t{0});
        *scale = 0.0F;
        return true;
    }
    const float am = bits_float(most);
    const float to_integer = max / am;
    for (uint32_t i = 0; i < n; ++i) q[i] = static_cast<int16_t>(round_int(x[i] * to_integer));
    *scale = am / max;
    return most < kInfinityBits;
}

bool all_finite(const float* x, uint32_t n) { return max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::reference
