// Rule 9's embedding rows, number by number.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

template <WeightType kType>
__device__ int32_t weight_at(const uint8_t* tiles, size_t tile, uint32_t row, uint32_t col) {
    if constexpr (kType == WeightType::kQ8_0) {
        return static_cast<int8_t>(tiles[tile * kTileBytes + weight_byte(row, col)]);
    } else {
        const auto group = static_cast<uint32_t>(tile % 2);
        const uint8_t both = tiles[(tile - group) * tile_bytes(kType) + nibble_byte(group, row, col)];
        const int32_t nibble = row < 8 ? both & 15 : both >> 4;
        return (nibble ^ 8) - 8;
    }
}

template <WeightType kType>
__device__ float embedded(const TiledMatrix& matrix, uint32_t token, uint32_t col) {
    const uint32_t group = col / kGroup;
    const uint32_t row = token % kTileRows;
    const size_t tile = static_cast<size_t>(token / kTileRows) * padded_groups(matrix.cols) + group;
    const int32_t n = weight_at<kType>(matrix.tiles, tile, row, col % kGroup);
    const size_t super_block = tile / kGroupsPerSuperBlock;
    const uint16_t d = matrix.scales[(super_block * kTileRows + row) * kGroupsPerSuperBlock + group % 8];
    return __fmul_rn(__half2float(__ushort_as_half(d)), static_cast<float>(n));
}

}  // namespace driftwood::compute::cuda
