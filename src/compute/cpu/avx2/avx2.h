// Kernels for AVX2 and FMA. Callers check cpu_has_avx2() first.
#pragma once

#include <cstdint>

namespace driftwood::compute::avx2 {

// Rule 10; as reference::gemm_f32.
void gemm_f32(const float* a, const float* b, float* c, uint32_t m, uint32_t n, uint32_t k, uint32_t lda, uint32_t ldb,
              uint32_t ldc, bool accumulate);

}  // namespace driftwood::compute::avx2
