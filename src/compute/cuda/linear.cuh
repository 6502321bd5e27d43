// What the kernels of linear layers share.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/mma.cuh"

namespace driftwood::compute::cuda {

inline constexpr uint32_t kScaleRow = kTileRows * kGroupsPerSuperBlock;  // scales of one tile row and super-block

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
