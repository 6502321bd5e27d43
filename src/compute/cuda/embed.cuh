// Rule 9's embedding rows, number by number: from tiles, records, and plain floats.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/records.cuh"

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

template <WeightType kType>
__device__ float embedded_record(const TiledMatrix& matrix, uint32_t token, uint32_t matrix_col) {
    using R = Record<kType>;
    const size_t at = static_cast<size_t>(token / kTileRows) * super_blocks_of(matrix.cols) + matrix_col / kSuperBlock;
    const R& record = reinterpret_cast<const R*>(matrix.tiles)[at];
    const uint32_t row = token % kTileRows;
    const uint32_t col = matrix_col % kSuperBlock;
    const int32_t n = number_of<kType>(record, row, col);
    const uint32_t group = col / kGroup;
    if constexpr (kType == WeightType::kW16) {
        return __fmul_rn(record.scale[row], static_cast<float>(n));
    } else if constexpr (R::kGroupScales) {
        const float d = half_of(record.d[row][group]);
        if constexpr (R::kHasMin) return __fmaf_rn(d, static_cast<float>(n), half_of(record.m[row][group]));
        return __fmul_rn(d, static_cast<float>(n));
    } else {
        const float d = half_of(record.d[row]);
        const int32_t scale = record.scale[row][kType == WeightType::kQ6_K ? col / 16 : group];
        const auto value = static_cast<float>(scale * n);
        if constexpr (R::kHasMin) {
            const float min = __fmul_rn(half_of(record.dmin[row]), static_cast<float>(record.min[row][group]));
            return __fmaf_rn(d, value, -min);
        }
        return __fmul_rn(d, value);
    }
}

// As the file has it: F32, F16, BF16.
template <WeightType kType>
__device__ float embedded_float(const TiledMatrix& matrix, uint32_t token, uint32_t col) {
    const size_t at = static_cast<size_t>(token) * matrix.cols + col;
    float x = 0.0F;
    if constexpr (kType == WeightType::kF32) x = reinterpret_cast<const float*>(matrix.tiles)[at];
    if constexpr (kType == WeightType::kF16) x = half_of(reinterpret_cast<const uint16_t*>(matrix.tiles)[at]);
    if constexpr (kType == WeightType::kBF16) {
        x = __uint_as_float(static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(matrix.tiles)[at]) << 16);
    }
    return fabsf(x) < kTiny ? 0.0F : x;
}

// Of what does not lie in tiles.
__device__ inline float embedded_untiled(const TiledMatrix& matrix, uint32_t token, uint32_t col) {
    switch (matrix.type) {
        case WeightType::kF32: return embedded_float<WeightType::kF32>(matrix, token, col);
        case WeightType::kF16: return embedded_float<WeightType::kF16>(matrix, token, col);
        case WeightType::kBF16: return embedded_float<WeightType::kBF16>(matrix, token, col);
        case WeightType::kW16: return embedded_record<WeightType::kW16>(matrix, token, col);
        case WeightType::kQ8_0: return embedded_record<WeightType::kQ8_0>(matrix, token, col);
        case WeightType::kQ4_0: return embedded_record<WeightType::kQ4_0>(matrix, token, col);
        case WeightType::kQ4_1: return embedded_record<WeightType::kQ4_1>(matrix, token, col);
        case WeightType::kQ5_0: return embedded_record<WeightType::kQ5_0>(matrix, token, col);
        case WeightType::kQ5_1: return embedded_record<WeightType::kQ5_1>(matrix, token, col);
        case WeightType::kQ4_K: return embedded_record<WeightType::kQ4_K>(matrix, token, col);
        case WeightType::kQ5_K: return embedded_record<WeightType::kQ5_K>(matrix, token, col);
        case WeightType::kQ6_K: return embedded_record<WeightType::kQ6_K>(matrix, token, col);
        case WeightType::kQ4S: return embedded_record<WeightType::kQ4S>(matrix, token, col);
    }
    return 0.0F;
}

}  // namespace driftwood::compute::cuda
