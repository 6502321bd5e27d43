// Rule 2 and the row quantisation of rule 7 (quantise_lanes.h).
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/quantise_lanes.h"

namespace driftwood::compute::neon {

namespace {

struct Isa {
    static constexpr uint32_t kLanes = neon::kLanes;
    using Int = int32x4_t;
    using Float = float32x4_t;

    static Float splat(float x) { return vdupq_n_f32(x); }
    static Float load(const float* x) { return vld1q_f32(x); }
    static Float load_left(const float* x, uint32_t i, uint32_t n) { return neon::load_left(x, i, n); }
    static Int rounded(Float x, Float factor) { return round_int(vmulq_f32(x, factor)); }
    static Int clamped(Int q) { return vmaxq_s32(vminq_s32(q, vdupq_n_s32(kMaxA8)), vdupq_n_s32(-kMaxA8)); }
    static Int low_digit(Int a) { return vshrq_n_s32(vshlq_n_s32(a, 24), 24); }
    static Int high_digit(Int a) { return vshrq_n_s32(vaddq_s32(a, vdupq_n_s32(128)), 8); }

    static void store_group(const Int lanes[8], int8_t* q, int32_t* sum) {
        store_16(lanes, q, sum);
        store_16(lanes + 4, q + kSumGroup, sum + 1);
    }
    static void store_16(const Int lanes[4], int8_t* q, int32_t* sum) {
        const int16x8_t front = vcombine_s16(vmovn_s32(lanes[0]), vmovn_s32(lanes[1]));
        const int16x8_t back = vcombine_s16(vmovn_s32(lanes[2]), vmovn_s32(lanes[3]));
        vst1q_s8(q, vcombine_s8(vmovn_s16(front), vmovn_s16(back)));
        *sum = vaddvq_s32(vaddq_s32(vaddq_s32(lanes[0], lanes[1]), vaddq_s32(lanes[2], lanes[3])));
    }

    static void store_left(int16_t* q, uint32_t i, uint32_t n, Int lanes) {
        const int16x4_t narrow = vmovn_s32(lanes);
        if (n - i >= kLanes) {
            vst1_s16(q + i, narrow);
            return;
        }
        int16_t last[kLanes];
        vst1_s16(last, narrow);
        for (uint32_t l = 0; l < n - i; ++l) q[i + l] = last[l];
    }

    static uint32_t max_magnitude_bits(const float* x, uint32_t n) {
        uint32x4_t most = vdupq_n_u32(0);
        for (uint32_t i = 0; i < n; i += kLanes) most = vmaxq_u32(most, magnitude_bits(load_left(x, i, n)));
        return vmaxvq_u32(most);
    }
};

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a32p(x, n, out); }
bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a256(x, n, out); }
bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a16(x, n, out); }
bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    return Quantise<Isa>::row(x, n, max, q, scale);
}
bool all_finite(const float* x, uint32_t n) { return Isa::max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::neon
