// Rule 10: matrix product over a guest's numbers. Lanes are columns, so every output keeps its own fma chain over
// ascending k: 6 rows of 16 columns are 12 chains, what 16 registers hold.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx2 {

namespace {

constexpr uint32_t kTileRows = 6;
constexpr uint32_t kTileCols = 2 * kLanes;

template <uint32_t Rows>
void tile_of(const float* a, const float* b, float* sum, uint32_t k, bool first) {
    __m256 chain[Rows][2];
#pragma GCC unroll 6
    for (uint32_t r = 0; r < Rows; ++r) {
        chain[r][0] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(sum + size_t{r} * kTileCols);
        chain[r][1] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(sum + size_t{r} * kTileCols + kLanes);
    }
    for (uint32_t p = 0; p < k; ++p, a += kTileRows, b += kTileCols) {
        const __m256 b0 = _mm256_load_ps(b);
        const __m256 b1 = _mm256_load_ps(b + kLanes);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m256 value = _mm256_broadcast_ss(a + r);
            chain[r][0] = _mm256_fmadd_ps(value, b0, chain[r][0]);
            chain[r][1] = _mm256_fmadd_ps(value, b1, chain[r][1]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t r = 0; r < Rows; ++r) {
        _mm256_storeu_ps(sum + size_t{r} * kTileCols, chain[r][0]);
        _mm256_storeu_ps(sum + size_t{r} * kTileCols + kLanes, chain[r][1]);
    }
}

void tile(const float* a, const float* b, float* sum, uint32_t rows, uint32_t k, bool first) {
    using Tile = void (*)(const float*, const float*, float*, uint32_t, bool);
    static constexpr Tile kTiles[kTileRows] = {tile_of<1>, tile_of<2>, tile_of<3>, tile_of<4>, tile_of<5>, tile_of<6>};
    kTiles[rows - 1](a, b, sum, k, first);
}

__m128i load_16(const uint16_t* in) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(in)); }
void store_16(uint16_t* out, __m128i x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(out), x); }

void widen_f16(const uint16_t* in, float* out, uint32_t n) {
    by_registers<kLanes>(in, out, n,
                         [](const uint16_t* x, float* y) { _mm256_storeu_ps(y, _mm256_cvtph_ps(load_16(x))); });
}

void widen_bf16(const uint16_t* in, float* out, uint32_t n) {
    by_registers<kLanes>(in, out, n, [](const uint16_t* x, float* y) {
        const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(x)), 16);
        _mm256_storeu_ps(y, _mm256_castsi256_ps(wide));
    });
}

void narrow_f16(const float* in, uint16_t* out, uint32_t n) {
    by_registers<kLanes>(in, out, n, [](const float* x, uint16_t* y) {
        store_16(y, _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    });
}

void narrow_bf16(const float* in, uint16_t* out, uint32_t n) {
    by_registers<kLanes>(in, out, n, [](const float* x, uint16_t* y) {
        const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x));
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        // 0x7FC00000 rounds to 0x7FC0 like any number.
        const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
        const __m256i high = _mm256_srli_epi32(rounded, 16);
        store_16(y, _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    });
}

}  // namespace

const GemmKernels& gemm_kernels() {
    static constexpr GemmKernels kKernels = {kTileRows, kTileCols,  tile,       Rows<Lanes>::finish,
                                             widen_f16, widen_bf16, narrow_f16, narrow_bf16};
    return kKernels;
}

}  // namespace driftwood::compute::avx2
