// Kernels for 64-bit Arm with i8mm (SMMLA): linear layers over many tokens, four tokens by four rows at a time; all
// else is NEON's. Callers check cpu_has_i8mm() first. Same bits as the reference; see kernels.h for what each takes and
// returns.
#pragma once

#include "compute/kernels.h"

namespace driftwood::compute::i8mm {

const Kernels& kernels();

// The kernel of a pair of types for any number of tokens, which costs as much as the next multiple of four; null where
// there is none.
LinearKernel groups_kernel(WeightType type, ActivationKind kind);
LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind);
void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end);

}  // namespace driftwood::compute::i8mm
