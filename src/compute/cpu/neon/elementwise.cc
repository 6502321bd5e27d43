// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

void silu_multiply(const float* gate, const float* up, uint32_t n, float* out) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const float32x4_t g = load_left(gate, i, n);
        const float32x4_t silu = vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.0F), exp_lanes(vnegq_f32(g))));
        store_left(out, i, n, vmulq_f32(silu, load_left(up, i, n)));
    }
}

void add(float* x, const float* y, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        store_left(x, i, n, vaddq_f32(load_left(x, i, n), load_left(y, i, n)));
    }
}

}  // namespace driftwood::compute::neon
