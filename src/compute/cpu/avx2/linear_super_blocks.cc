// Rule 3 for weights whose super-blocks have integer scales.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/weight_lanes.h"

namespace driftwood::compute::avx2 {

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ4_K>(kind);
        case WeightType::kQ5_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ5_K>(kind);
        case WeightType::kQ6_K: return linear_of<Isa, SuperBlockLayer, WeightType::kQ6_K>(kind);
        case WeightType::kQ4S: return linear_of<Isa, SuperBlockLayer, WeightType::kQ4S>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::avx2
