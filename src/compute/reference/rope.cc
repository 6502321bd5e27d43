// Rule 5: RoPE turns pairs of a head by the angles of its position.
#include <cmath>

#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

void turn(float& x0, float& x1, float c, float s) {
    const float r0 = std::fma(-x1, s, x0 * c);
    const float r1 = std::fma(x1, c, x0 * s);
    x0 = r0;
    x1 = r1;
}

}  // namespace

void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    for (uint32_t i = 0; i < head_dim / 2; ++i) turn(head[2 * i], head[2 * i + 1], cosine[i], sine[i]);
}

void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    const uint32_t half = head_dim / 2;
    for (uint32_t i = 0; i < half; ++i) turn(head[i], head[i + half], cosine[i], sine[i]);
}

}  // namespace driftwood::compute::reference
