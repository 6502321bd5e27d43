// Rule 3 for weights whose super-blocks have integer scales.
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/neon/weight_lanes.h"

namespace driftwood::compute::neon {

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ4_K>(kind);
        case WeightType::kQ5_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ5_K>(kind);
        case WeightType::kQ6_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ6_K>(kind);
        case WeightType::kQ4S: return linear_of<Isa, SuperBlockLayer, WeightType::kQ4S>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::neon
