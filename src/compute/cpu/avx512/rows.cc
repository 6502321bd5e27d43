// Rule 10: elementwise operations, softmax and RMSNorm over a guest's floats.
#include "compute/rows.h"

#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx512 {

namespace {

struct RowLanes : Lanes {
    static Largest largest(const float* x, uint32_t n) {
        const __m512 least = _mm512_set1_ps(float_of(0xFF800000U));
        __m512 max = least;
        __mmask16 nan = 0;
        for (uint32_t i = 0; i < n; i += kLanes) {
            const __m512 value = _mm512_mask_loadu_ps(least, lanes_left(i, n), x + i);
            max = _mm512_max_ps(value, max);  // keeps the second one when a value is no number
            nan |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        }
        return {_mm512_reduce_max_ps(max), nan != 0};
    }
};

}  // namespace

const RowKernels& row_kernels() { return Rows<RowLanes>::kKernels; }

}  // namespace driftwood::compute::avx512
