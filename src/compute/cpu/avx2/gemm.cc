// Rule 10: matrix product over a guest's floats. Lanes are columns, so every output keeps its own fma chain over
// ascending k; a tile of outputs stays in registers from the first k to the last.
#include "compute/cpu/avx2/avx2.h"

#include <immintrin.h>

#include <cstddef>

namespace driftwood::compute::avx2 {

namespace {

constexpr uint32_t kLanes = 8;
constexpr uint32_t kTileRows = 4;

struct Matrices {
    const float* a;
    const float* b;
    float* c;
    uint32_t k, lda, ldb, ldc;
    bool accumulate;
};

// All ones in the first `count` lanes.
__m256i first_lanes(uint32_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count < kLanes ? count : kLanes)), lane);
}

// Writes a finished sum: the old c is added when asked for, and every NaN becomes the same one.
void finish(float* c, __m256i mask, __m256 sum, bool accumulate) {
    if (accumulate) sum = _mm256_add_ps(_mm256_maskload_ps(c, mask), sum);
    const __m256 nan = _mm256_cmp_ps(sum, sum, _CMP_UNORD_Q);
    _mm256_maskstore_ps(c, mask, _mm256_blendv_ps(sum, _mm256_set1_ps(__builtin_nanf("")), nan));
}

// Outputs [row, row + Rows) x [col, col + 16), columns as the masks say.
template <uint32_t Rows>
void tile(const Matrices& x, size_t row, size_t col, __m256i low, __m256i high) {
    __m256 sum[Rows][2];
    for (uint32_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (size_t p = 0; p < x.k; ++p) {
        const float* b = x.b + p * x.ldb + col;
        const __m256 b0 = _mm256_maskload_ps(b, low);
        const __m256 b1 = _mm256_maskload_ps(b + kLanes, high);
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m256 a = _mm256_set1_ps(x.a[(row + r) * x.lda + p]);
            sum[r][0] = _mm256_fmadd_ps(a, b0, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(a, b1, sum[r][1]);
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
    for (size_t col = 0; col < n; col += 2 * kLanes) {
        const auto left = static_cast<uint32_t>(n - col);
        const __m256i low = first_lanes(left);
        const __m256i high = first_lanes(left > kLanes ? left - kLanes : 0);
        size_t row = 0;
        for (; row + kTileRows <= m; row += kTileRows) tile<kTileRows>(x, row, col, low, high);
        for (; row < m; ++row) tile<1>(x, row, col, low, high);
    }
}

}  // namespace driftwood::compute::avx2
