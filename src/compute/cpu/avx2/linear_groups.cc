// Rule 3 for weights whose groups of 32 have a float scale each.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/weight_lanes.h"

namespace driftwood::compute::avx2 {

LinearKernel groups_kernel(WeightType type, ActivationKind kind) { return groups_of<Isa, GroupLayer>(type, kind); }

}  // namespace driftwood::compute::avx2
