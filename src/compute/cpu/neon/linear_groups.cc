// Rule 3 for weights whose groups of 32 have a float scale each.
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/neon/weight_lanes.h"

namespace driftwood::compute::neon {

LinearKernel groups_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ8_0: return linear_of<Isa, GroupLayer, WeightType::kQ8_0, ActivationKind::kA32P>(kind);
        case WeightType::kQ4_0: return linear_of<Isa, GroupLayer, WeightType::kQ4_0>(kind);
        case WeightType::kQ4_1: return linear_of<Isa, GroupLayer, WeightType::kQ4_1>(kind);
        case WeightType::kQ5_0: return linear_of<Isa, GroupLayer, WeightType::kQ5_0>(kind);
        case WeightType::kQ5_1: return linear_of<Isa, GroupLayer, WeightType::kQ5_1>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::neon
