// Kernels for AMX int8: linear layers over many tokens by tiles; all else is AVX-512's. Callers check
// cpu_has_amx_int8() first. Same bits as the reference; see kernels.h for what each takes and returns.
#pragma once

#include "compute/kernels.h"

namespace driftwood::compute::amx {

const Kernels& kernels();

// The kernel of a pair of types by tiles, for any number of tokens; null where there is none. A token past a multiple
// of 16 costs as much as 16.
LinearKernel tiles_kernel(WeightType type, ActivationKind kind);

// Its parts.
LinearKernel groups_kernel(WeightType type, ActivationKind kind);
LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind);
void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end);

}  // namespace driftwood::compute::amx
