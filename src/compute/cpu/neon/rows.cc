// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::neon {

namespace {

struct RowLanes : Lanes {
    static Largest largest(const float* x, uint32_t n) {
        float max = float_of(0xFF800000U);
        bool nan = false;
        for (uint32_t i = 0; i < n; ++i) {
            max = x[i] > max ? x[i] : max;
            nan = nan || x[i] != x[i];
        }
        return {max, nan};
    }
};

}  // namespace

const RowKernels& row_kernels() { return Rows<RowLanes>::kKernels; }

}  // namespace driftwood::compute::neon
