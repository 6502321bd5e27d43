// Rule 2 and the row quantisation of rule 7.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

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

// Writes 16 numbers, each of which fits into 8 bits, and their sum.
void store_16(const int32x4_t lanes[4], int8_t* q, int32_t* sum) {
    const int16x8_t front = vcombine_s16(vmovn_s32(lanes[0]), vmovn_s32(lanes[1]));
    const int16x8_t back = vcombine_s16(vmovn_s32(lanes[2]), vmovn_s32(lanes[3]));
    vst1q_s8(q, vcombine_s8(vmovn_s16(front), vmovn_s16(back)));
    *sum = vaddvq_s32(vaddq_s32(vaddq_s32(lanes[0], lanes[1]), vaddq_s32(lanes[2], lanes[3])));
}

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kGroup) {
        const uint32_t most = max_magnitude_bits(x + begin, kGroup);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
        const float32x4_t to_integer = vdupq_n_f32(tiny ? 0.0F : power_of_two(-e));
        for (uint32_t at = begin; at < begin + kGroup; at += kSumGroup) {
            int32x4_t lanes[4];
            for (uint32_t i = 0; i < 4; ++i) lanes[i] = quantise_lanes(vld1q_f32(x + at + i * kLanes), to_integer);
            store_16(lanes, out.high + at, out.high_sum + at / kSumGroup);
        }
        out.scale[begin / kGroup] = tiny ? 0.0F : power_of_two(e);
    }
    return most_of_all < kInfinityBits;
}

bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        const uint32_t most = max_magnitude_bits(x + begin, end - begin);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        const float max = static_cast<float>(kMaxA8);
        const float32x4_t to_integer = vdupq_n_f32(tiny ? 0.0F : max / float_of(most));
        for (uint32_t at = begin; at < end; at += kSumGroup) {
            int32x4_t lanes[4];
            for (uint32_t i = 0; i < 4; ++i) {
                lanes[i] = round_int(vmulq_f32(vld1q_f32(x + at + i * kLanes), to_integer));
            }
            store_16(lanes, out.high + at, out.high_sum + at / kSumGroup);
        }
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : float_of(most) / max;
    }
    return most_of_all < kInfinityBits;
}

bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out) {
    uint32_t most_of_all = 0;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        const uint32_t most = max_magnitude_bits(x + begin, end - begin);
        most_of_all = most > most_of_all ? most : most_of_all;
        const bool tiny = most < bits_of(kTiny);
        int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;  // floor(log2 max) - 14
        const float largest = float_of(most) * power_of_two(-e) + kRoundMagic;
        if (!tiny && static_cast<int32_t>(bits_of(largest) - kRoundMagicBits) > kMaxA16) ++e;
        const float32x4_t to_integer = vdupq_n_f32(tiny ? 0.0F : power_of_two(-e));
        for (uint32_t at = begin; at < end; at += kSumGroup) {
            int32x4_t high[4];
            int32x4_t low[4];
            for (uint32_t i = 0; i < 4; ++i) {
                const int32x4_t a = round_int(vmulq_f32(vld1q_f32(x + at + i * kLanes), to_integer));
                low[i] = vshrq_n_s32(vshlq_n_s32(a, 24), 24);
                high[i] = vshrq_n_s32(vaddq_s32(a, vdupq_n_s32(128)), 8);
            }
            store_16(high, out.high + at, out.high_sum + at / kSumGroup);
            store_16(low, out.low + at, out.low_sum + at / kSumGroup);
        }
        out.scale[begin / kSuperBlock] = tiny ? 0.0F : power_of_two(e);
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
