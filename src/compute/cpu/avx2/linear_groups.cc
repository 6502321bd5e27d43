// Rule 3 for weights whose groups of 32 have a float scale each.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/weight_lanes.h"

namespace driftwood::compute::avx2 {

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

}  // namespace driftwood::compute::avx2
