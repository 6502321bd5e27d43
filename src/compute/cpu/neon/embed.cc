// Rule 9: rows of embeddings in Q8_0. The other types are the reference's: a step reads one row per token.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"
#include "compute/formats.h"

namespace driftwood::compute::neon {

void embed_q8_0(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const uint8_t* block = row + size_t{group} * sizeof(BlockQ8_0);
        uint16_t half = 0;
        __builtin_memcpy(&half, block, sizeof(half));
        const float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
        for (uint32_t i = 0; i < kGroup; i += 2 * kLanes) {
            const int16x8_t values = vmovl_s8(vreinterpret_s8_u8(vld1_u8(block + 2 + i)));
            float* to = out + size_t{group} * kGroup + i;
            vst1q_f32(to, vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_low_s16(values)))));
            vst1q_f32(to + kLanes, vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(vget_high_s16(values)))));
        }
    }
}

}  // namespace driftwood::compute::neon
