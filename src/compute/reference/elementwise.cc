// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

void silu_multiply(const float* gate, const float* up, uint32_t n, float* out) {
    for (uint32_t i = 0; i < n; ++i) out[i] = silu(gate[i]) * up[i];
}

void add(float* x, const float* y, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) x[i] = x[i] + y[i];
}

}  // namespace driftwood::compute::reference
