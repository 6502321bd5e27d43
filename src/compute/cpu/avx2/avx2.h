// Kernels for AVX2, FMA and F16C. Callers check cpu_has_avx2() first.
#pragma once

#include "compute/gemm.h"

namespace driftwood::compute::avx2 {

// Rule 10, for cpu/gemm.h.
const GemmKernels& gemm_kernels();

}  // namespace driftwood::compute::avx2
