// Rule 3 on the card: Q8_0 weights times A32P activations on the tensor cores. The integer sums of a group come out of
// one mma; the float chains over groups and super-blocks keep the contract's order.
//
// Few tokens (decode): a block owns 16 rows; its warps take super-blocks in turn, straight from global memory, and hand
// their partial sums t to the threads that add them up in order. Many tokens (prefill): 128 rows by 64 or 128 tokens a
// block, through shared memory, a super-block at a time.
#include "compute/constants.h"
#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/mma.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kSmallWarps = 8;
constexpr uint32_t kSmallTokens = 32;                             // at most; more go to the large kernel
constexpr uint32_t kScaleRow = kTileRows * kGroupsPerSuperBlock;  // scales of one tile row and super-block

// Half j of 8 halves that lie in 4 words.
__device__ float scale_of(const uint4& halves, uint32_t j) {
    const uint32_t word = j / 2 == 0 ? halves.x : j / 2 == 1 ? halves.y : j / 2 == 2 ? halves.z : halves.w;
    return __half2float(__ushort_as_half(static_cast<uint16_t>(j % 2 == 0 ? word & 0xFFFFU : word >> 16)));
}

// The product that a block's tile of rows belongs to, and the tile's number in it.
__device__ Linear::Product product_of(const Linear& args, uint32_t tile, uint32_t rows_per_tile, uint32_t& local) {
    uint32_t i = 0;
    local = tile;
    for (; i + 1 < args.products; ++i) {
        const uint32_t tiles = (args.product[i].matrix.rows + rows_per_tile - 1) / rows_per_tile;
        if (local < tiles) break;
        local -= tiles;
    }
    return args.product[i];
}

__device__ void put(const Linear& args, const Linear::Product& product, uint32_t row, uint32_t token, float value) {
    if (row >= product.matrix.rows || token >= args.tokens) return;
    float* y = product.y + static_cast<size_t>(token) * product.matrix.rows + row;
    *y = args.add ? __fadd_rn(*y, value) : value;
    if (args.fault != nullptr && magnitude_bits(value) >= kInfinityBits) {
        atomicMin(args.fault + args.source[token], args.code);
    }
}

// Tokens: 8, 16 or 32.
template <uint32_t kTokens>
__global__ void __launch_bounds__(kSmallWarps * 32) linear_small_kernel(Linear args) {
    constexpr uint32_t kTiles = kTokens / 8;  // of 8 tokens
    constexpr uint32_t kOutputs = kTileRows * kTokens;
    constexpr uint32_t kThreads = kSmallWarps * 32;
    constexpr uint32_t kEach = (kOutputs + kThreads - 1) / kThreads;
    __shared__ float part[2][kSmallWarps][kOutputs];
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    uint32_t row_tile = 0;
    const Linear::Product product = product_of(args, blockIdx.x, kTileRows, row_tile);
    const uint32_t super_blocks = super_blocks_of(product.matrix.cols);
    const uint32_t groups = super_blocks * kGroupsPerSuperBlock;

    float acc[kEach] = {};
    for (uint32_t first = 0, buffer = 0; first < super_blocks; first += kSmallWarps, buffer ^= 1) {
        const uint32_t sb = first + warp;
        if (sb < super_blocks) {
            const size_t at = static_cast<size_t>(row_tile) * super_blocks + sb;
            const uint4* tiles = reinterpret_cast<const uint4*>(product.matrix.tiles) + at * 8 * 32 + lane;
            const auto* scales = reinterpret_cast<const uint4*>(product.matrix.scales + at * kScaleRow);
            uint4 w[8];
            for (uint32_t j = 0; j < 8; ++j) w[j] = __ldcs(tiles + j * 32);
            const uint4 d0 = __ldcs(scales + g);
            const uint4 d1 = __ldcs(scales + g + 8);
            float sum[kTiles][4] = {};
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                const uint32_t a[4] = {w[j].x, w[j].y, w[j].z, w[j].w};
                const float da = scale_of(d0, j);
                const float db = scale_of(d1, j);
                const uint32_t group = sb * 8 + j;
#pragma unroll
                for (uint32_t n = 0; n < kTiles; ++n) {
                    const size_t tile = static_cast<size_t>(n / 2) * groups + group;
                    const uint2 b =
                        *reinterpret_cast<const uint2*>(args.x.q + tile * kTileBytes + lane * 16 + n % 2 * 8);
                    const float2 s =
                        *reinterpret_cast<const float2*>(args.x.scale + tile * kTileRows + n % 2 * 8 + 2 * t);
                    int32_t i[4] = {};
                    mma_s8s8(i, a, b.x, b.y);
                    sum[n][0] = __fmaf_rn(da, __fmul_rn(static_cast<float>(i[0]), s.x), sum[n][0]);
                    sum[n][1] = __fmaf_rn(da, __fmul_rn(static_cast<float>(i[1]), s.y), sum[n][1]);
                    sum[n][2] = __fmaf_rn(db, __fmul_rn(static_cast<float>(i[2]), s.x), sum[n][2]);
                    sum[n][3] = __fmaf_rn(db, __fmul_rn(static_cast<float>(i[3]), s.y), sum[n][3]);
                }
            }
            for (uint32_t n = 0; n < kTiles; ++n) {
                for (uint32_t i = 0; i < 4; ++i) {
                    const uint32_t token = n * 8 + 2 * t + i % 2;
                    part[buffer][warp][token * kTileRows + g + i / 2 * 8] = sum[n][i];
                }
            }
        }
        __syncthreads();
        const uint32_t count = min(kSmallWarps, super_blocks - first);
        for (uint32_t e = 0; e < kEach; ++e) {
            const uint32_t output = e * kThreads + threadIdx.x;
            if (output >= kOutputs) break;
            for (uint32_t i = 0; i < count; ++i) acc[e] = __fadd_rn(acc[e], part[buffer][i][output]);
        }
    }
    for (uint32_t e = 0; e < kEach; ++e) {
        const uint32_t output = e * kThreads + threadIdx.x;
        if (output >= kOutputs) break;
        put(args, product, row_tile * kTileRows + output % kTileRows, output / kTileRows, acc[e]);
    }
}

// ---- many tokens

constexpr uint32_t kLargeRows = 128;

// What a block holds of one super-block: 128 rows by kTokens tokens.
template <uint32_t kTokens>
struct Stage {
    uint8_t weights[kLargeRows / kTileRows][8][kTileBytes];
    uint8_t activations[kTokens / kTileRows][8][kTileBytes];
    float activation_scale[kTokens / kTileRows][8][kTileRows];
    uint16_t weight_scale[kLargeRows / kTileRows][kScaleRow];
};

// Copies `bytes` (a multiple of 16) with all threads of the block.
__device__ void copy_async(void* to, const void* from, uint32_t bytes) {
    for (uint32_t i = threadIdx.x * 16; i < bytes; i += blockDim.x * 16) {
        cp_async_16(static_cast<uint8_t*>(to) + i, static_cast<const uint8_t*>(from) + i);
    }
}

template <uint32_t kTokens>
__device__ void load_stage(Stage<kTokens>& stage, const Linear& args, const TiledMatrix& matrix, uint32_t row_tile,
                           uint32_t token_tile, uint32_t sb) {
    const uint32_t super_blocks = super_blocks_of(matrix.cols);
    const uint32_t row_tiles = tiles_of(matrix.rows);
    const uint32_t token_tiles = tiles_of(args.tokens);
    for (uint32_t i = 0; i < kLargeRows / kTileRows; ++i) {
        // Beyond the last tile the last one is read again; nothing of it is written.
        const size_t at = static_cast<size_t>(min(row_tile + i, row_tiles - 1)) * super_blocks + sb;
        copy_async(stage.weights[i], matrix.tiles + at * 8 * kTileBytes, 8 * kTileBytes);
        copy_async(stage.weight_scale[i], matrix.scales + at * kScaleRow, kScaleRow * sizeof(uint16_t));
    }
    for (uint32_t i = 0; i < kTokens / kTileRows; ++i) {
        const size_t at = static_cast<size_t>(min(token_tile + i, token_tiles - 1)) * super_blocks + sb;
        copy_async(stage.activations[i], args.x.q + at * 8 * kTileBytes, 8 * kTileBytes);
        copy_async(stage.activation_scale[i], args.x.scale + at * 8 * kTileRows, 8 * kTileRows * sizeof(float));
    }
    cp_async_commit();
}

// A warp's 32 rows by 32 tokens of one super-block: sum[row tile][token tile of 8][output of the mma].
template <uint32_t kTokens>
__device__ void multiply_stage(const Stage<kTokens>& stage, uint32_t warp_row, uint32_t warp_token,
                               float (&acc)[2][4][4]) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    float sum[2][4][4] = {};
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        uint4 b[2];
        float2 s[4];
        for (uint32_t n = 0; n < 2; ++n) {
            b[n] = *reinterpret_cast<const uint4*>(&stage.activations[warp_token * 2 + n][j][lane * 16]);
            const float* scale = stage.activation_scale[warp_token * 2 + n][j];
            s[2 * n] = *reinterpret_cast<const float2*>(scale + 2 * t);
            s[2 * n + 1] = *reinterpret_cast<const float2*>(scale + 8 + 2 * t);
        }
#pragma unroll
        for (uint32_t m = 0; m < 2; ++m) {
            const uint4 w = *reinterpret_cast<const uint4*>(&stage.weights[warp_row * 2 + m][j][lane * 16]);
            const uint32_t a[4] = {w.x, w.y, w.z, w.w};
            const uint16_t* scale = stage.weight_scale[warp_row * 2 + m];
            const float da = __half2float(__ushort_as_half(scale[g * 8 + j]));
            const float db = __half2float(__ushort_as_half(scale[(g + 8) * 8 + j]));
#pragma unroll
            for (uint32_t n = 0; n < 4; ++n) {
                int32_t i[4] = {};
                if (n % 2 == 0) {
                    mma_s8s8(i, a, b[n / 2].x, b[n / 2].y);
                } else {
                    mma_s8s8(i, a, b[n / 2].z, b[n / 2].w);
                }
                sum[m][n][0] = __fmaf_rn(da, __fmul_rn(static_cast<float>(i[0]), s[n].x), sum[m][n][0]);
                sum[m][n][1] = __fmaf_rn(da, __fmul_rn(static_cast<float>(i[1]), s[n].y), sum[m][n][1]);
                sum[m][n][2] = __fmaf_rn(db, __fmul_rn(static_cast<float>(i[2]), s[n].x), sum[m][n][2]);
                sum[m][n][3] = __fmaf_rn(db, __fmul_rn(static_cast<float>(i[3]), s[n].y), sum[m][n][3]);
            }
        }
    }
#pragma unroll
    for (uint32_t m = 0; m < 2; ++m) {
#pragma unroll
        for (uint32_t n = 0; n < 4; ++n) {
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) acc[m][n][i] = __fadd_rn(acc[m][n][i], sum[m][n][i]);
        }
    }
}

template <uint32_t kTokens>
__global__ void __launch_bounds__(kTokens * 4) linear_large_kernel(Linear args) {
    extern __shared__ __align__(16) uint8_t shared[];
    auto* stages = reinterpret_cast<Stage<kTokens>*>(shared);
    uint32_t block_row = 0;
    const Linear::Product product = product_of(args, blockIdx.y, kLargeRows, block_row);
    const uint32_t super_blocks = super_blocks_of(product.matrix.cols);
    const uint32_t row_tile = block_row * (kLargeRows / kTileRows);
    const uint32_t token_tile = blockIdx.x * (kTokens / kTileRows);
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t warp_row = warp % 4;
    const uint32_t warp_token = warp / 4;

    float acc[2][4][4] = {};
    load_stage(stages[0], args, product.matrix, row_tile, token_tile, 0);
    for (uint32_t sb = 0; sb < super_blocks; ++sb) {
        if (sb + 1 < super_blocks) {
            load_stage(stages[(sb + 1) % 2], args, product.matrix, row_tile, token_tile, sb + 1);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        multiply_stage(stages[sb % 2], warp_row, warp_token, acc);
        __syncthreads();
    }
    const uint32_t g = threadIdx.x % 32 / 4;
    const uint32_t t = threadIdx.x % 4;
#pragma unroll
    for (uint32_t m = 0; m < 2; ++m) {
#pragma unroll
        for (uint32_t n = 0; n < 4; ++n) {
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) {
                const uint32_t row = (row_tile + warp_row * 2 + m) * kTileRows + g + i / 2 * 8;
                const uint32_t token = token_tile * kTileRows + warp_token * 32 + n * 8 + 2 * t + i % 2;
                put(args, product, row, token, acc[m][n][i]);
            }
        }
    }
}

template <uint32_t kTokens>
cudaError_t launch_large(cudaStream_t stream, const Linear& args) {
    constexpr size_t kShared = 2 * sizeof(Stage<kTokens>);
    const cudaError_t allowed =
        cudaFuncSetAttribute(linear_large_kernel<kTokens>, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    uint32_t row_blocks = 0;
    for (uint32_t i = 0; i < args.products; ++i)
        row_blocks += (args.product[i].matrix.rows + kLargeRows - 1) / kLargeRows;
    const dim3 grid((args.tokens + kTokens - 1) / kTokens, row_blocks);
    linear_large_kernel<kTokens><<<grid, kTokens * 4, kShared, stream>>>(args);
    return cudaGetLastError();
}

__global__ void repack_kernel(const uint8_t* blocks, uint32_t rows, uint32_t cols, uint8_t* tiles, uint16_t* scales) {
    constexpr uint32_t kBlockBytes = 2 + kGroup;
    const uint32_t group = blockIdx.x;
    const uint32_t row = blockIdx.y * kTileRows + threadIdx.x / kGroup;
    const uint32_t col = threadIdx.x % kGroup;
    const bool there = row < rows && group * kGroup < cols;
    const uint8_t* block = blocks + (static_cast<size_t>(row) * (cols / kGroup) + group) * kBlockBytes;
    const size_t tile = static_cast<size_t>(blockIdx.y) * gridDim.x + group;
    tiles[tile * kTileBytes + weight_byte(row % kTileRows, col)] = there ? block[2 + col] : 0;
    if (col != 0) return;
    const size_t super_block = tile / kGroupsPerSuperBlock;
    scales[(super_block * kTileRows + row % kTileRows) * kGroupsPerSuperBlock + group % kGroupsPerSuperBlock] =
        static_cast<uint16_t>(there ? block[0] | block[1] << 8 : 0);
}

}  // namespace

cudaError_t repack_q8_0(cudaStream_t stream, const uint8_t* blocks, uint32_t rows, uint32_t cols, uint8_t* tiles,
                        uint16_t* scales) {
    const dim3 grid(padded_groups(cols), tiles_of(rows));
    repack_kernel<<<grid, kTileRows * kGroup, 0, stream>>>(blocks, rows, cols, tiles, scales);
    return cudaGetLastError();
}

cudaError_t linear_q8_0(cudaStream_t stream, const Linear& args) {
    uint32_t row_tiles = 0;
    for (uint32_t i = 0; i < args.products; ++i) row_tiles += tiles_of(args.product[i].matrix.rows);
    constexpr uint32_t kThreads = kSmallWarps * 32;
    if (args.tokens <= 8) {
        linear_small_kernel<8><<<row_tiles, kThreads, 0, stream>>>(args);
    } else if (args.tokens <= 16) {
        linear_small_kernel<16><<<row_tiles, kThreads, 0, stream>>>(args);
    } else if (args.tokens <= kSmallTokens) {
        linear_small_kernel<32><<<row_tiles, kThreads, 0, stream>>>(args);
    } else if (args.tokens <= 64) {
        return launch_large<64>(stream, args);
    } else {
        return launch_large<128>(stream, args);
    }
    return cudaGetLastError();
}

}  // namespace driftwood::compute::cuda
