// Rule 6 (SILU) and the sums of the residual stream.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx512 {

void silu_multiply(const float* gate, const float* up, uint32_t n, float* out) {
    Rows<Lanes>::silu_multiply(gate, up, out, n);
}

void add(float* x, const float* y, uint32_t n) { Rows<Lanes>::add(x, y, x, n); }

}  // namespace driftwood::compute::avx512
