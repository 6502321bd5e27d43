// Rule 3 for weights whose super-blocks have integer scales.
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/neon/weight_lanes.h"

namespace driftwood::compute::neon {

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    return super_blocks_of<Isa, SuperBlockLayer>(type, kind);
}

}  // namespace driftwood::compute::neon
