// Rule 3 for weights whose groups of 32 have a float scale each.
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/neon/weight_lanes.h"

namespace driftwood::compute::neon {

LinearKernel groups_kernel(WeightType type, ActivationKind kind) { return groups_of<Isa, GroupLayer>(type, kind); }

}  // namespace driftwood::compute::neon
