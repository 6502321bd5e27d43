// Rule 3 for weights whose super-blocks have integer scales.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/weight_lanes.h"

namespace driftwood::compute::avx2 {

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    return super_blocks_of<Isa, SuperBlockLayer>(type, kind);
}

}  // namespace driftwood::compute::avx2
