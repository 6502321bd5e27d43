// Rule 5: RoPE, 4 pairs at a time.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

float32x4x2_t turn(float32x4x2_t x, float32x4_t c, float32x4_t s) {
    return {vfmsq_f32(vmulq_f32(x.val[0], c), x.val[1], s), vfmaq_f32(vmulq_f32(x.val[0], s), x.val[1], c)};
}

}  // namespace

void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    const uint32_t pairs = head_dim / 2;
    for (uint32_t i = 0; i < pairs; i += kLanes) {
        const uint32_t count = pairs - i < kLanes ? pairs - i : kLanes;
        float last[2 * kLanes] = {};
        float* x = head + 2 * size_t{i};
        if (count < kLanes) {
            for (uint32_t l = 0; l < 2 * count; ++l) last[l] = x[l];
        }
        const float32x4x2_t in = vld2q_f32(count < kLanes ? last : x);
        vst2q_f32(count < kLanes ? last : x, turn(in, load_left(cosine, i, pairs), load_left(sine, i, pairs)));
        if (count < kLanes) {
            for (uint32_t l = 0; l < 2 * count; ++l) x[l] = last[l];
        }
    }
}

void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    const uint32_t half = head_dim / 2;
    for (uint32_t i = 0; i < half; i += kLanes) {
        const float32x4x2_t in = {load_left(head, i, half), load_left(head + half, i, half)};
        const float32x4x2_t out = turn(in, load_left(cosine, i, half), load_left(sine, i, half));
        store_left(head, i, half, out.val[0]);
        store_left(head + half, i, half, out.val[1]);
    }
}

}  // namespace driftwood::compute::neon
