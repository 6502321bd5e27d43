// Rule 10: matrix product over a guest's numbers. Lanes are columns, so every output keeps its own fma chain over
// ascending k: 12 rows of 32 columns are 24 chains, enough to hide the latency of two fma units.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kTileRows = 12;
constexpr uint32_t kTileCols = 2 * kLanes;

template <uint32_t Rows>
void tile_of(const float* a, const float* b, float* sum, uint32_t k, bool first) {
    __m512 chain[Rows][2];
#pragma GCC unroll 12
    for (uint32_t r = 0; r < Rows; ++r) {
        chain[r][0] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum + r * kTileCols);
        chain[r][1] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum + r * kTileCols + kLanes);
    }
    for (uint32_t p = 0; p < k; ++p, a += kTileRows, b += kTileCols) {
        const __m512 b0 = _mm512_load_ps(b);
        const __m512 b1 = _mm512_load_ps(b + kLanes);
#pragma GCC unroll 12
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m512 value = _mm512_set1_ps(a[r]);
            chain[r][0] = _mm512_fmadd_ps(value, b0, chain[r][0]);
            chain[r][1] = _mm512_fmadd_ps(value, b1, chain[r][1]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t r = 0; r < Rows; ++r) {
        _mm512_storeu_ps(sum + r * kTileCols, chain[r][0]);
        _mm512_storeu_ps(sum + r * kTileCols + kLanes, chain[r][1]);
    }
}

void tile(const float* a, const float* b, float* sum, uint32_t rows, uint32_t k, bool first) {
    using Tile = void (*)(const float*, const float*, float*, uint32_t, bool);
    static constexpr Tile kTiles[kTileRows] = {tile_of<1>, tile_of<2>,  tile_of<3>,  tile_of<4>,
                                               tile_of<5>, tile_of<6>,  tile_of<7>,  tile_of<8>,
                                               tile_of<9>, tile_of<10>, tile_of<11>, tile_of<12>};
    kTiles[rows - 1](a, b, sum, k, first);
}

void widen_f16(const uint16_t* in, float* out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        _mm512_mask_storeu_ps(out + i, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, in + i)));
    }
}

void widen_bf16(const uint16_t* in, float* out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, in + i)), 16);
        _mm512_mask_storeu_epi32(out + i, mask, wide);
    }
}

void narrow_f16(const float* in, uint16_t* out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512 x = _mm512_maskz_loadu_ps(mask, in + i);
        _mm256_mask_storeu_epi16(out + i, mask, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

void narrow_bf16(const float* in, uint16_t* out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += kLanes) {
        const __mmask16 mask = lanes_left(i, n);
        const __m512i x = _mm512_maskz_loadu_epi32(mask, in + i);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(0x7FFF)), odd);
        // 0x7FC00000 rounds to 0x7FC0 like any number.
        _mm256_mask_storeu_epi16(out + i, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
    }
}

}  // namespace

const GemmKernels& gemm_kernels() {
    static constexpr GemmKernels kKernels = {kTileRows, kTileCols,  tile,       Rows<Lanes>::finish,
                                             widen_f16, widen_bf16, narrow_f16, narrow_bf16};
    return kKernels;
}

}  // namespace driftwood::compute::avx512
