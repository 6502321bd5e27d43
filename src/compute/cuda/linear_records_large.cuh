// Rule 3 over records for many tokens: a block of warps shares records and activations, a super-block at a time, while
// the next one is on its way into shared memory. As linear.cu, for every type.
#pragma once

#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/multiply.cuh"

namespace driftwood::compute::cuda {

inline constexpr uint32_t kLargeColumns = 64;  // of activations in a block
inline constexpr uint32_t kWarpColumns = 32;

// What a block holds of one super-block: kRowTiles tiles of rows by kLargeColumns columns.
template <WeightType kType, uint32_t kRowTiles>
struct RecordStage {
    Record<kType> weights[kRowTiles];
    uint8_t activations[kLargeColumns / kTileRows][8][kTileBytes];
    float scale[kLargeColumns / kTileRows][kTileRows];
};

// Has the lanes of one warp fetch a super-block, a piece each. Beyond the last tile the last one is read again; nothing
// of it is written.
template <WeightType kType, uint32_t kRowTiles>
__device__ void load_records(RecordStage<kType, kRowTiles>& stage, CopyBarrier& barrier, const Activations& x,
                             uint32_t column_tiles, const TiledMatrix& matrix, uint32_t row_tile, uint32_t column_tile,
                             uint32_t sb) {
    constexpr uint32_t kColumnTiles = kLargeColumns / kTileRows;
    static_assert(kRowTiles + 2 * kColumnTiles <= 32);
    const uint32_t super_blocks = super_blocks_of(matrix.cols);
    uint32_t i = threadIdx.x % 32;
    if (i == 0) expect_bytes(barrier, sizeof(stage));
    __syncwarp();
    if (i < kRowTiles) {
        const size_t tile = min(row_tile + i, tiles_of(matrix.rows) - 1);
        const auto* records = reinterpret_cast<const Record<kType>*>(matrix.tiles);
        copy_bulk(stage.weights + i, records + tile * super_blocks + sb, sizeof(Record<kType>), barrier);
        return;
    }
    i -= kRowTiles;
    if (i >= 2 * kColumnTiles) return;
    const uint32_t tile = min(column_tile + i / 2, column_tiles - 1);
    const size_t at = static_cast<size_t>(tile) * super_blocks + sb;
    if (i % 2 == 0) {
        copy_bulk(stage.activations[i / 2], x.q + at * 8 * kTileBytes, 8 * kTileBytes, barrier);
    } else {
        copy_bulk(stage.scale[i / 2], x.scale + at * kTileRows, kTileRows * sizeof(float), barrier);
    }
}

template <uint32_t kRowTiles, uint32_t kM>
inline constexpr uint32_t kRecordThreads = kRowTiles / kM*(kLargeColumns / kWarpColumns) * 32;

template <WeightType kType, ActivationKind kKind, uint32_t kRowTiles, uint32_t kM>
__global__ void __launch_bounds__(kRecordThreads<kRowTiles, kM>) linear_records_large_kernel(Linear args) {
    constexpr uint32_t kN = kWarpColumns / 8;
    constexpr uint32_t kWarpRows = kRowTiles / kM;
    using Stage = RecordStage<kType, kRowTiles>;
    extern __shared__ __align__(128) uint8_t shared[];
    auto* stages = reinterpret_cast<Stage*>(shared);
    uint32_t block_row = 0;
    const Linear::Product product = product_of(args, blockIdx.y, kRowTiles * kTileRows, block_row);
    const uint32_t super_blocks = super_blocks_of(product.matrix.cols);
    const uint32_t row_tile = block_row * kRowTiles;
    const uint32_t column_tile = blockIdx.x * (kLargeColumns / kTileRows);
    const uint32_t column_tiles = tiles_of(args.tokens * kDigits<kKind>);
    const uint32_t warp_row = threadIdx.x / 32 % kWarpRows;
    const uint32_t warp_column = threadIdx.x / 32 / kWarpRows;
    const uint32_t lane = threadIdx.x % 32;

    __shared__ CopyBarrier barrier[2];
    if (threadIdx.x == 0) {
        make_barrier(barrier[0]);
        make_barrier(barrier[1]);
    }
    __syncthreads();
    const auto load = [&](uint32_t sb) {
        if (threadIdx.x < 32 && sb < super_blocks) {
            load_records(stages[sb % 2], barrier[sb % 2], args.x, column_tiles, product.matrix, row_tile, column_tile,
                         sb);
        }
        cp_async_commit();
    };
    Partials<kKind, kM, kN> acc = {};
    load(0);
    for (uint32_t sb = 0; sb < super_blocks; ++sb) {
        load(sb + 1);
        wait_for_bytes(barrier[sb % 2], sb / 2 % 2);
        const Stage& stage = stages[sb % 2];
        const Record<kType>* record[kM];
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) record[m] = stage.weights + warp_row * kM + m;
        const auto columns = [&](uint32_t j, uint32_t n) {
            const uint4 both =
                *reinterpret_cast<const uint4*>(&stage.activations[warp_column * 2 + n / 2][j][lane * 16]);
            return n % 2 == 0 ? make_uint2(both.x, both.y) : make_uint2(both.z, both.w);
        };
        Partials<kKind, kM, kN> t;
        multiply<kType, kKind, kM, kN>(record, columns, t);
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < kLaneOutputs<kKind>; ++k) {
                const uint32_t column = n % 2 * 8 + output_token<kKind>(k) * kDigits<kKind>;
                const float s = stage.scale[warp_column * 2 + n / 2][column];
#pragma unroll
                for (uint32_t m = 0; m < kM; ++m) acc[m][n][k] = __fmaf_rn(t[m][n][k], s, acc[m][n][k]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (uint32_t m = 0; m < kM; ++m) {
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < kLaneOutputs<kKind>; ++k) {
                const uint32_t row = (row_tile + warp_row * kM + m) * kTileRows + lane / 4 + 8 * output_row<kKind>(k);
                const uint32_t column = column_tile * kTileRows + warp_column * kWarpColumns + n * 8;
                put(args, product, row, column / kDigits<kKind> + output_token<kKind>(k), acc[m][n][k]);
            }
        }
    }
}

template <WeightType kType, ActivationKind kKind, uint32_t kRowTiles, uint32_t kM>
cudaError_t launch_records_large(cudaStream_t stream, const Linear& args) {
    constexpr size_t kShared = 2 * sizeof(RecordStage<kType, kRowTiles>);
    const auto kernel = linear_records_large_kernel<kType, kKind, kRowTiles, kM>;
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    uint32_t row_blocks = 0;
    for (uint32_t i = 0; i < args.products; ++i) {
        row_blocks += (tiles_of(args.product[i].matrix.rows) + kRowTiles - 1) / kRowTiles;
    }
    const uint32_t column_blocks = (args.tokens * kDigits<kKind> + kLargeColumns - 1) / kLargeColumns;
    kernel<<<dim3(column_blocks, row_blocks), kRecordThreads<kRowTiles, kM>, kShared, stream>>>(args);
    return cudaGetLastError();
}

template <WeightType kType, ActivationKind kKind>
cudaError_t linear_records_large(cudaStream_t stream, const Linear& args) {
    // Tiles as large as still give every multiprocessor something, and as its shared memory holds.
    static const uint32_t kMostShared = card_has(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    static const uint32_t kEnough = card_has(cudaDevAttrMultiProcessorCount);
    uint32_t row_blocks = 0;
    for (uint32_t i = 0; i < args.products; ++i) row_blocks += (tiles_of(args.product[i].matrix.rows) + 7) / 8;
    const uint32_t column_blocks = (args.tokens * kDigits<kKind> + kLargeColumns - 1) / kLargeColumns;
    if (row_blocks * column_blocks >= kEnough && kMostShared >= 2 * sizeof(RecordStage<kType, 8>)) {
        return launch_records_large<kType, kKind, 8, 2>(stream, args);
    }
    return launch_records_large<kType, kKind, 4, 1>(stream, args);
}

}  // namespace driftwood::compute::cuda
