// Rule 4: RMSNorm.
#include <cmath>

#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    const float sum = ordered_sum_of_squares({x, n});
    const float mean = std::fma(sum, 1.0F / static_cast<float>(n), eps);
    const float r = 1.0F / std::sqrt(mean);
    for (uint32_t i = 0; i < n; ++i) y[i] = (x[i] * r) * weight[i];
    return is_finite(sum);
}

}  // namespace driftwood::compute::reference
