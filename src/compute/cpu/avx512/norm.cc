// Rule 4: RMSNorm.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx512 {

bool rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    return Rows<Lanes>::rms_norm(x, weight, n, eps, y);
}

}  // namespace driftwood::compute::avx512
