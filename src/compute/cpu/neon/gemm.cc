// Rule 10: matrix product over a guest's numbers. Lanes are columns, so every output keeps its own fma chain over
// ascending k: 6 rows of 16 columns are 24 chains of the 32 registers.
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"
#include "compute/cpu/row_lanes.h"

namespace driftwood::compute::neon {

namespace {

constexpr uint32_t kTileRows = 6;
constexpr uint32_t kVectors = 4;  // of a tile's columns
constexpr uint32_t kTileCols = kVectors * kLanes;

template <uint32_t Rows>
void tile_of(const float* a, const float* b, float* sum, uint32_t k, bool first) {
    float32x4_t chain[Rows][kVectors];
#pragma GCC unroll 6
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < kVectors; ++v) {
            chain[r][v] = first ? vdupq_n_f32(0.0F) : vld1q_f32(sum + r * kTileCols + v * kLanes);
        }
    }
    for (uint32_t p = 0; p < k; ++p, a += kTileRows, b += kTileCols) {
        float32x4_t column[kVectors];
#pragma GCC unroll 4
        for (uint32_t v = 0; v < kVectors; ++v) column[v] = vld1q_f32(b + v * kLanes);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < kVectors; ++v) chain[r][v] = vfmaq_n_f32(chain[r][v], column[v], a[r]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < kVectors; ++v) vst1q_f32(sum + r * kTileCols + v * kLanes, chain[r][v]);
    }
}

void tile(const float* a, const float* b, float* sum, uint32_t rows, uint32_t k, bool first) {
    using Tile = void (*)(const float*, const float*, float*, uint32_t, bool);
    static constexpr Tile kTiles[kTileRows] = {tile_of<1>, tile_of<2>, tile_of<3>, tile_of<4>, tile_of<5>, tile_of<6>};
    kTiles[rows - 1](a, b, sum, k, first);
}

void widen_f16(const uint16_t* in, float* out, uint32_t n) {
    by_registers<kLanes>(
        in, out, n, [](const uint16_t* x, float* y) { vst1q_f32(y, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x)))); });
}

void widen_bf16(const uint16_t* in, float* out, uint32_t n) {
    by_registers<kLanes>(in, out, n, [](const uint16_t* x, float* y) {
        vst1q_f32(y, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(x), 16)));
    });
}

void narrow_f16(const float* in, uint16_t* out, uint32_t n) {
    by_registers<kLanes>(
        in, out, n, [](const float* x, uint16_t* y) { vst1_u16(y, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x)))); });
}

void narrow_bf16(const float* in, uint16_t* out, uint32_t n) {
    by_registers<kLanes>(in, out, n, [](const float* x, uint16_t* y) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x));
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        // 0x7FC00000 rounds to 0x7FC0 like any number.
        const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
        vst1_u16(y, vshrn_n_u32(rounded, 16));
    });
}

}  // namespace

const GemmKernels& gemm_kernels() {
    static constexpr GemmKernels kKernels = {kTileRows, kTileCols,  tile,       Rows<Lanes>::finish,
                                             widen_f16, widen_bf16, narrow_f16, narrow_bf16};
    return kKernels;
}

}  // namespace driftwood::compute::neon
