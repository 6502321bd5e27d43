// Rule 10: matrix product over a guest's floats. One fma chain per output over ascending k, from +0.
#include <cmath>
#include <cstddef>

#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

void gemm_f32(const float* a, const float* b, float* c, uint32_t m, uint32_t n, uint32_t k, uint32_t lda, uint32_t ldb,
              uint32_t ldc, bool accumulate) {
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) {
            float sum = 0.0F;
            for (size_t p = 0; p < k; ++p) sum = std::fma(a[i * lda + p], b[p * ldb + j], sum);
            float& out = c[i * ldc + j];
            if (accumulate) sum = out + sum;
            // Which operand's payload a NaN keeps differs between instructions: one NaN for all.
            out = std::isnan(sum) ? __builtin_nanf("") : sum;
        }
    }
}

}  // namespace driftwood::compute::reference
