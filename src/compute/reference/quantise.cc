// Rule 2 and the row quantisation of rule 7.
#include <algorithm>
#include <numeric>

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

void sum_groups(const int8_t* q, uint32_t n, int32_t* sums) {
    for (uint32_t begin = 0; begin < n; begin += kSumGroup) {
        sums[begin / kSumGroup] = std::accumulate(q + begin, q + begin + kSumGroup, 0);
    }
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    bool finite = true;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const float* values = x + group * kGroup;
        int8_t* q = out.high + group * kGroup;
        const uint32_t most = max_magnitude_bits(values, kGroup);
        finite = finite && most < kInfinityBits;
        out.scale[group] = 0.0F;
        float to_integer = 0.0F;
        if (most >= float_bits(kTiny)) {
            const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
            to_integer = power_of_two(-e);
            out.scale[group] = power_of_two(e);
        }
        for (uint32_t i = 0; i < kGroup; ++i) {
            q[i] = static_cast<int8_t>(std::clamp(round_int(values[i] * to_integer), -kMaxA8, kMaxA8));
        }
    }
    sum_groups(out.high, n, out.high_sum);
    return finite;
}

bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) {
    bool finite = true;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t count = std::min(kSuperBlock, n - begin);
        const uint32_t most = max_magnitude_bits(x + begin, count);
        finite = finite && most < kInfinityBits;
        const bool zero = most < float_bits(kTiny);
        const float to_integer = zero ? 0.0F : static_cast<float>(kMaxA8) / bits_float(most);
        out.scale[begin / kSuperBlock] = zero ? 0.0F : bits_float(most) / static_cast<float>(kMaxA8);
        for (uint32_t i = begin; i < begin + count; ++i) {
            out.high[i] = static_cast<int8_t>(round_int(x[i] * to_integer));
        }
    }
    sum_groups(out.high, n, out.high_sum);
    return finite;
}

bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out) {
    bool finite = true;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t count = std::min(kSuperBlock, n - begin);
        const uint32_t most = max_magnitude_bits(x + begin, count);
        finite = finite && most < kInfinityBits;
        out.scale[begin / kSuperBlock] = 0.0F;
        float to_integer = 0.0F;
        if (most >= float_bits(kTiny)) {
            int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;  // floor(log2 max) - 14
            if (round_int(bits_float(most) * power_of_two(-e)) > kMaxA16) ++e;
            to_integer = power_of_two(-e);
            out.scale[begin / kSuperBlock] = power_of_two(e);
        }
        for (uint32_t i = begin; i < begin + count; ++i) {
            // a = 256 high + low; unsigned, for a is anything where x is not finite.
            const auto a = static_cast<uint32_t>(round_int(x[i] * to_integer));
            out.low[i] = static_cast<int8_t>(a);
            out.high[i] = static_cast<int8_t>((a + 128) >> 8);
        }
    }
    sum_groups(out.high, n, out.high_sum);
    sum_groups(out.low, n, out.low_sum);
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
