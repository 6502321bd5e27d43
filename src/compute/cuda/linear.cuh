// What the kernels of linear layers share.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/mma.cuh"

namespace driftwood::compute::cuda {

inline constexpr uint32_t kScaleRow = kTileRows * kGroupsPerSuperBlock;  // scales of one tile row and super-block

// Groups whose weights a lane's 16 bytes hold.
template <WeightType kType>
constexpr uint32_t kGroupsPerLoad = kType == WeightType::kQ4_0 ? 2 : 1;

// The operand of one group from the 16 bytes of a lane: group j of those. Q4_0: 16 (n - 8), so that a nibble becomes a
// signed byte by one mask; the scales are taken sixteen times smaller, which changes no product.
template <WeightType kType>
__device__ void operand(const uint4& w, uint32_t j, uint32_t (&a)[4]) {
    if constexpr (kType == WeightType::kQ8_0) {
        a[0] = w.x;
        a[1] = w.y;
        a[2] = w.z;
        a[3] = w.w;
    } else {
        constexpr uint32_t kHigh = 0xF0F0F0F0U;
        const uint32_t left = j == 0 ? w.x : w.z;
        const uint32_t right = j == 0 ? w.y : w.w;
        a[0] = left << 4 & kHigh;
        a[1] = left & kHigh;
        a[2] = right << 4 & kHigh;
        a[3] = right & kHigh;
    }
}

template <WeightType kType>
__device__ float weight_scale(uint16_t half) {
    const float d = __half2float(__ushort_as_half(half));
    return kType == WeightType::kQ4_0 ? __fmul_rn(d, 0.0625F) : d;
}

// The product that a block's tile of rows belongs to, and the tile's number in it.
__device__ inline Linear::Product product_of(const Linear& args, uint32_t tile, uint32_t rows_per_tile,
                                             uint32_t& local) {
    local = tile;
    uint32_t i = 0;
    for (; i + 1 < args.products; ++i) {
        const uint32_t tiles = (args.product[i].matrix.rows + rows_per_tile - 1) / rows_per_tile;
        if (local < tiles) break;
        local -= tiles;
    }
    return args.product[i];
}

__device__ inline void put(const Linear& args, const Linear::Product& product, uint32_t row, uint32_t token,
                           float value) {
    if (row >= product.matrix.rows || token >= args.tokens) return;
    float* y = product.y + static_cast<size_t>(token) * product.matrix.rows + row;
    *y = args.add ? __fadd_rn(*y, value) : value;
    if (args.fault != nullptr && magnitude_bits(value) >= kInfinityBits) {
        atomicMin(args.fault + args.source[token], args.code);
    }
}

}  // namespace driftwood::compute::cuda
