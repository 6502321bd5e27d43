// Rule 2 (A32P) and the row quantisation of rule 7.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

constexpr uint32_t kGroupRegisters = kGroup / kLanes;

// 4 values in 32 bits, clamped to ±127.
int32x4_t quantise_lanes(float32x4_t x, float32x4_t to_integer) {
    const int32x4_t q = round_int(vmulq_f32(x, to_integer));
    return vmaxq_s32(vminq_s32(q, vdupq_n_s32(kMaxA8)), vdupq_n_s32(-kMaxA8));
}

uint32_t max_magnitude_bits(const float* x, uint32_t n) {
    uint32x4_t most = vdupq_n_u32(0);
    for (uint32_t i = 0; i < n; i += kLanes) most = vmaxq_u32(most, magnitude_bits(load_left(x, i, n)));
    return vmaxvq_u32(most);
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const float* values = x + size_t{group} * kGroup;
        const uint32_t most = max_magnitude_bits(values, kGroup);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const float32x4_t to_integer = vdupq_n_f32(tiny ? 0.0F : power_of_two(-e));
        int32x4_t total[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};  // of 16 values each
        for (uint32_t i = 0; i < kGroupRegisters; i += 2) {
            const int32x4_t low = quantise_lanes(vld1q_f32(values + i * kLanes), to_integer);
            const int32x4_t high = quantise_lanes(vld1q_f32(values + (i + 1) * kLanes), to_integer);
            int32x4_t& half = total[i / (kGroupRegisters / 2)];
            half = vaddq_s32(half, vaddq_s32(low, high));
            const int16x8_t both = vcombine_s16(vmovn_s32(low), vmovn_s32(high));
            vst1_s8(out.high + size_t{group} * kGroup + i * kLanes, vmovn_s16(both));
        }
        out.scale[group] = tiny ? 0.0F : power_of_two(e);
        out.high_sum[2 * group] = vaddvq_s32(total[0]);
        out.high_sum[2 * group + 1] = vaddvq_s32(total[1]);
    }
    return most_of_all < kInfinityBits;
}

bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    const uint32_t most = max_magnitude_bits(x, n);
    const bool tiny = most < bits_of(kTiny);
    const float am = float_of(most);
    const float32x4_t to_integer = vdupq_n_f32(tiny ? 0.0F : max / am);
    for (uint32_t i = 0; i < n; i += kLanes) {
        const int16x4_t value = vmovn_s32(round_int(vmulq_f32(load_left(x, i, n), to_integer)));
        if (n - i >= kLanes) {
            vst1_s16(q + i, value);
        } else {
            int16_t last[kLanes];
            vst1_s16(last, value);
            for (uint32_t l = 0; l < n - i; ++l) q[i + l] = last[l];
        }
    }
    *scale = tiny ? 0.0F : am / max;
    return most < kInfinityBits;
}

bool all_finite(const float* x, uint32_t n) { return max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::neon
