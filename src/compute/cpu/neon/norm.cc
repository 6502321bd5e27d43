// Rule 4: RMSNorm. The 32 lanes of the rule are eight registers.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

float sum_of_squares(const float* x, uint32_t n) {
    float sum = 0.0F;
    for (uint32_t begin = 0; begin < n; begin += kSuperBlock) {
        const uint32_t end = n - begin < kSuperBlock ? n : begin + kSuperBlock;
        float32x4_t lane[8];
        for (float32x4_t& l : lane) l = vdupq_n_f32(0.0F);
        // Missing values are +0: fma(0, 0, lane) leaves a lane as it is.
        for (uint32_t i = begin, l = 0; i < end; i += kLanes, l = (l + 1) % 8) {
            const float32x4_t value = load_left(x, i, end);
            lane[l] = vfmaq_f32(lane[l], value, value);
        }
        sum = sum + fold(lane);
    }
    return sum;
}

}  // namespace

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    const float sum = sum_of_squares(x, n);
    const float mean = __builtin_fmaf(sum, 1.0F / static_cast<float>(n), eps);
    const float root = vget_lane_f32(vsqrt_f32(vdup_n_f32(mean)), 0);
    const float32x4_t factor = vdupq_n_f32(1.0F / root);
    for (uint32_t i = 0; i < n; i += kLanes) {
        store_left(y, i, n, vmulq_f32(vmulq_f32(load_left(x, i, n), factor), load_left(weight, i, n)));
    }
    return (bits_of(sum) & 0x7FFFFFFFU) < kInfinityBits;
}

}  // namespace driftwood::compute::neon
