// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx2 {

namespace {

struct RowLanes : Lanes {
    static Largest largest(const float* x, uint32_t n) {
        const __m256 least = _mm256_set1_ps(float_of(0xFF800000U));
        __m256 max = least;
        __m256 nan = _mm256_setzero_ps();
        for (uint32_t i = 0; i < n; i += kLanes) {
            const __m256i mask = lanes_left(i, n);
            const __m256 value = _mm256_blendv_ps(least, _mm256_maskload_ps(x + i, mask), _mm256_castsi256_ps(mask));
            max = _mm256_max_ps(value, max);  // keeps the second one when a value is no number
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
        }
        return {reduce_max(max), _mm256_movemask_ps(nan) != 0};
    }
};

}  // namespace

const RowKernels& row_kernels() { return Rows<RowLanes>::kKernels; }

}  // namespace driftwood::compute::avx2
