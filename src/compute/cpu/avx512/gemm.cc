// Rule 10: matrix product over a guest's floats. Lanes are columns, so every output keeps its own fma chain over
// ascending k; a tile of outputs stays in registers from the first k to the last.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kTileRows = 8;
constexpr uint32_t kTileRegisters = 2;

struct Matrices {
    const float* a;
    const float* b;
    float* c;
    uint32_t k, lda, ldb, ldc;
    bool accumulate;
};

// Writes a finished sum: the old c is added when asked for, and every NaN becomes the same one.
void finish(float* c, __mmask16 mask, __m512 sum, bool accumulate) {
    if (accumulate) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), sum);
    const __mmask16 nan = _mm512_cmp_ps_mask(sum, sum, _CMP_UNORD_Q);
    _mm512_mask_storeu_ps(c, mask, _mm512_mask_mov_ps(sum, nan, _mm512_set1_ps(__builtin_nanf(""))));
}

// Outputs [row, row + Rows) x [col, col + 32), columns as the masks say.
template <uint32_t Rows>
void tile(const Matrices& x, size_t row, size_t col, __mmask16 low, __mmask16 high) {
    __m512 sum[Rows][kTileRegisters];
    for (uint32_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (size_t p = 0; p < x.k; ++p) {
        const float* b = x.b + p * x.ldb + col;
        const __m512 b0 = _mm512_maskz_loadu_ps(low, b);
        const __m512 b1 = _mm512_maskz_loadu_ps(high, b + kLanes);
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m512 a = _mm512_set1_ps(x.a[(row + r) * x.lda + p]);
            sum[r][0] = _mm512_fmadd_ps(a, b0, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(a, b1, sum[r][1]);
        }
    }
    for (uint32_t r = 0; r < Rows; ++r) {
        float* c = x.c + (row + r) * x.ldc + col;
        finish(c, low, sum[r][0], x.accumulate);
        finish(c + kLanes, high, sum[r][1], x.accumulate);
    }
}

}  // namespace

void gemm_f32(const float* a, const float* b, float* c, uint32_t m, uint32_t n, uint32_t k, uint32_t lda, uint32_t ldb,
              uint32_t ldc, bool accumulate) {
    const Matrices x{a, b, c, k, lda, ldb, ldc, accumulate};
    for (size_t col = 0; col < n; col += kTileRegisters * kLanes) {
        const auto left = static_cast<uint32_t>(n - col);
        const __mmask16 low = lanes_left(0, left);
        const __mmask16 high = left > kLanes ? lanes_left(kLanes, left) : static_cast<__mmask16>(0);
        size_t row = 0;
        for (; row + kTileRows <= m; row += kTileRows) tile<kTileRows>(x, row, col, low, high);
        for (; row < m; ++row) tile<1>(x, row, col, low, high);
    }
}

}  // namespace driftwood::compute::avx512
