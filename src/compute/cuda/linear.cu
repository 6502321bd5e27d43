// Rule 3 on the card: integer weights times 8-bit activations on the tensor cores. The integer sums of a group come out
// of one mma; the float chains over groups and super-blocks keep the contract's order.
//
// Many tokens (prefill, large batches): a block of warps shares tiles of weights and activations, a super-block at a
// time, while the next one is on its way into shared memory. Few tokens go to linear_small.cu.
#include "compute/constants.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"

namespace driftwood::compute::cuda {

namespace {

// What a block holds of one super-block: kRows rows by kTokens tokens.
template <WeightType kType, uint32_t kRows, uint32_t kTokens>
struct Stage {
    static constexpr uint32_t kScales = kind_of(kType) == ActivationKind::kA32P ? 8 : 1;  // of a token
    uint8_t weights[kRows / kTileRows][8 / kGroupsPerLoad<kType>][kTileBytes];
    uint8_t activations[kTokens / kTileRows][8][kTileBytes];
    float activation_scale[kTokens / kTileRows][kScales][kTileRows];
    uint16_t weight_scale[kRows / kTileRows][kScaleRow];
};

// Has the lanes of one warp fetch a super-block, a piece each.
template <WeightType kType, uint32_t kRows, uint32_t kTokens>
__device__ void load_stage(Stage<kType, kRows, kTokens>& stage, CopyBarrier& barrier, const Linear& args,
                           const TiledMatrix& matrix, uint32_t row_tile, uint32_t token_tile, uint32_t sb) {
    constexpr uint32_t kRowTiles = kRows / kTileRows;
    constexpr uint32_t kTokenTiles = kTokens / kTileRows;
    static_assert(2 * (kRowTiles + kTokenTiles) <= 32);
    const uint32_t super_blocks = super_blocks_of(matrix.cols);
    uint32_t i = threadIdx.x % 32;
    if (i == 0) expect_bytes(barrier, sizeof(stage));
    __syncwarp();
    // Beyond the last tile the last one is read again; nothing of it is written.
    if (i < 2 * kRowTiles) {
        const uint32_t tile = min(row_tile + i / 2, tiles_of(matrix.rows) - 1);
        const size_t at = static_cast<size_t>(tile) * super_blocks + sb;
        if (i % 2 == 0) {
            copy_bulk(stage.weights[i / 2], matrix.tiles + at * 8 * tile_bytes(kType), 8 * tile_bytes(kType), barrier);
        } else {
            copy_bulk(stage.weight_scale[i / 2], matrix.scales + at * kScaleRow, kScaleRow * sizeof(uint16_t), barrier);
        }
        return;
    }
    i -= 2 * kRowTiles;
    if (i >= 2 * kTokenTiles) return;
    const uint32_t tile = min(token_tile + i / 2, tiles_of(args.tokens) - 1);
    const size_t at = static_cast<size_t>(tile) * super_blocks + sb;
    if (i % 2 == 0) {
        copy_bulk(stage.activations[i / 2], args.x.q + at * 8 * kTileBytes, 8 * kTileBytes, barrier);
    } else {
        constexpr uint32_t kCount = Stage<kType, kRows, kTokens>::kScales * kTileRows;
        copy_bulk(stage.activation_scale[i / 2], args.x.scale + at * kCount, kCount * sizeof(float), barrier);
    }
}

// A warp's 16 kM rows by 32 tokens of one super-block, added to acc[row tile][token tile of 8][output of the mma].
//
// A group's sum I becomes a float without a conversion: the mma starts from the bits of 12582912 (I is below 2^20, so
// they become those of 12582912 + I). A32P: fma(12582912 + I, s, -12582912 · s) is I · s, exactly, s being a power of
// two; that product overflows for scales of 2^104 and more, which kLarge does by conversion.
template <uint32_t kM, bool kLarge, WeightType kType, uint32_t kRows, uint32_t kTokens>
__device__ void multiply_stage(const Stage<kType, kRows, kTokens>& stage, uint32_t warp_row, uint32_t warp_token,
                               const int32_t (&start)[4], float (&acc)[kM][4][4]) {
    constexpr bool kScaled = kind_of(kType) == ActivationKind::kA32P;  // group by group
    constexpr uint32_t kEach = kGroupsPerLoad<kType>;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    const auto scales = [&](uint32_t j, uint32_t n) {
        return *reinterpret_cast<const float2*>(stage.activation_scale[warp_token * 2 + n / 2][j] + n % 2 * 8 + 2 * t);
    };
    float sum[kM][4][4] = {};
#pragma unroll
    for (uint32_t pair = 0; pair < 8 / kEach; ++pair) {
        uint4 w[kM];
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) {
            w[m] = *reinterpret_cast<const uint4*>(&stage.weights[warp_row * kM + m][pair][lane * 16]);
        }
#pragma unroll
        for (uint32_t half = 0; half < kEach; ++half) {
            const uint32_t j = pair * kEach + half;
            uint4 b[2];
            float2 s[4], base[4];
#pragma unroll
            for (uint32_t n = 0; n < 2; ++n) {
                b[n] = *reinterpret_cast<const uint4*>(&stage.activations[warp_token * 2 + n][j][lane * 16]);
            }
#pragma unroll
            for (uint32_t n = 0; n < 4 && kScaled; ++n) {
                s[n] = scales(j, n);
                base[n] = {__fmul_rn(s[n].x, -kRoundMagic), __fmul_rn(s[n].y, -kRoundMagic)};
            }
#pragma unroll
            for (uint32_t m = 0; m < kM; ++m) {
                uint32_t a[4];
                operand<kType>(w[m], half, a);
                const uint16_t* scale = stage.weight_scale[warp_row * kM + m];
                const float da = weight_scale<kType>(scale[g * 8 + j]);
                const float db = weight_scale<kType>(scale[(g + 8) * 8 + j]);
#pragma unroll
                for (uint32_t n = 0; n < 4; ++n) {
                    int32_t i[4];
                    mma_s8s8_from(i, a, n % 2 == 0 ? b[n / 2].x : b[n / 2].z, n % 2 == 0 ? b[n / 2].y : b[n / 2].w,
                                  start);
#pragma unroll
                    for (uint32_t k = 0; k < 4; ++k) {
                        float f = 0.0F;
                        if constexpr (!kScaled) {
                            f = __fsub_rn(__int_as_float(i[k]), kRoundMagic);
                        } else {
                            const float by = k % 2 == 0 ? s[n].x : s[n].y;
                            f = kLarge ? __fmul_rn(static_cast<float>(i[k]), by)
                                       : __fmaf_rn(__int_as_float(i[k]), by, k % 2 == 0 ? base[n].x : base[n].y);
                        }
                        sum[m][n][k] = __fmaf_rn(k < 2 ? da : db, f, sum[m][n][k]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < 4; ++n) {
        const float2 s = kScaled ? float2{} : scales(0, n);
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) {
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) {
                acc[m][n][k] = kScaled ? __fadd_rn(acc[m][n][k], sum[m][n][k])
                                       : __fmaf_rn(sum[m][n][k], k % 2 == 0 ? s.x : s.y, acc[m][n][k]);
            }
        }
    }
}

template <uint32_t kM>
__device__ void store_outputs(const Linear& args, const Linear::Product& product, uint32_t row_tile,
                              uint32_t first_token, const float (&acc)[kM][4][4]) {
    const uint32_t rows = product.matrix.rows;
    const uint32_t first_row = row_tile * kTileRows + threadIdx.x % 32 / 4;
#pragma unroll
    for (uint32_t n = 0; n < 4; ++n) {
#pragma unroll
        for (uint32_t h = 0; h < 2; ++h) {
            const uint32_t token = first_token + n * 8 + threadIdx.x % 4 * 2 + h;
            if (token >= args.tokens) continue;
            float* y = product.y + static_cast<size_t>(token) * rows;
            bool finite = true;
#pragma unroll
            for (uint32_t m = 0; m < kM; ++m) {
#pragma unroll
                for (uint32_t r = 0; r < 2; ++r) {
                    const uint32_t row = first_row + m * kTileRows + r * 8;
                    const float value = acc[m][n][h + 2 * r];
                    if (row >= rows) continue;
                    finite &= magnitude_bits(value) < kInfinityBits;
                    y[row] = args.add ? __fadd_rn(y[row], value) : value;
                }
            }
            if (args.fault != nullptr && !finite) atomicMin(args.fault + args.source[token], args.code);
        }
    }
}

template <uint32_t kRows, uint32_t kTokens, uint32_t kM>
constexpr uint32_t kLargeThreads = (kRows / (16 * kM)) * (kTokens / 32) * 32;

template <WeightType kType, uint32_t kRows, uint32_t kTokens, uint32_t kM>
__global__ void __launch_bounds__(kLargeThreads<kRows, kTokens, kM>) linear_large_kernel(Linear args) {
    constexpr uint32_t kWarpRows = kRows / (16 * kM);
    extern __shared__ __align__(128) uint8_t shared[];
    auto* stages = reinterpret_cast<Stage<kType, kRows, kTokens>*>(shared);
    uint32_t block_row = 0;
    const Linear::Product product = product_of(args, blockIdx.y, kRows, block_row);
    const uint32_t super_blocks = super_blocks_of(product.matrix.cols);
    const uint32_t row_tile = block_row * (kRows / kTileRows);
    const uint32_t token_tile = blockIdx.x * (kTokens / kTileRows);
    const uint32_t warp_row = threadIdx.x / 32 % kWarpRows;
    const uint32_t warp_token = threadIdx.x / 32 / kWarpRows;
    const bool large = kind_of(kType) == ActivationKind::kA32P && *args.x.large != 0;
    // Four registers for the whole kernel: the compiler, which must not know that they are equal, would make them anew
    // for each mma.
    int32_t start[4];
#pragma unroll
    for (int32_t& bits : start) {
        asm volatile("mov.b32 %0, %1;" : "=r"(bits) : "r"(large ? 0 : static_cast<int32_t>(kRoundMagicBits)));
    }

    __shared__ CopyBarrier barrier[2];
    if (threadIdx.x == 0) {
        make_barrier(barrier[0]);
        make_barrier(barrier[1]);
    }
    __syncthreads();
    const auto load = [&](uint32_t sb) {
        if (threadIdx.x < 32 && sb < super_blocks) {
            load_stage(stages[sb % 2], barrier[sb % 2], args, product.matrix, row_tile, token_tile, sb);
        }
        cp_async_commit();
    };
    float acc[kM][4][4] = {};
    load(0);
    for (uint32_t sb = 0; sb < super_blocks; ++sb) {
        load(sb + 1);
        wait_for_bytes(barrier[sb % 2], sb / 2 % 2);
        if (kind_of(kType) == ActivationKind::kA32P && large) {
            multiply_stage<kM, true>(stages[sb % 2], warp_row, warp_token, start, acc);
        } else {
            multiply_stage<kM, false>(stages[sb % 2], warp_row, warp_token, start, acc);
        }
        __syncthreads();
    }
    store_outputs<kM>(args, product, row_tile + warp_row * kM, token_tile * kTileRows + warp_token * 32, acc);
}

template <uint32_t kRows>
uint32_t row_blocks(const Linear& args) {
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < args.products; ++i) blocks += (args.product[i].matrix.rows + kRows - 1) / kRows;
    return blocks;
}

template <WeightType kType, uint32_t kRows, uint32_t kTokens>
constexpr size_t kLargeShared = 2 * sizeof(Stage<kType, kRows, kTokens>);

// What a block may have of the card's shared memory.
size_t most_shared() {
    static const size_t kMost = card_has(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    return kMost;
}

template <WeightType kType, uint32_t kRows, uint32_t kTokens, uint32_t kM>
cudaError_t launch_large(cudaStream_t stream, const Linear& args) {
    constexpr size_t kShared = kLargeShared<kType, kRows, kTokens>;
    const auto kernel = linear_large_kernel<kType, kRows, kTokens, kM>;
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    const dim3 grid((args.tokens + kTokens - 1) / kTokens, row_blocks<kRows>(args));
    kernel<<<grid, kLargeThreads<kRows, kTokens, kM>, kShared, stream>>>(args);
    return cudaGetLastError();
}

template <WeightType kType>
cudaError_t linear_large(cudaStream_t stream, const Linear& args) {
    // Tiles as large as still give every multiprocessor something, and as its shared memory holds.
    constexpr uint32_t kEnough = 120;
    const uint32_t wide = (args.tokens + 127) / 128;
    const uint32_t narrow = (args.tokens + 63) / 64;
    const bool large = args.tokens > 64 && wide * row_blocks<128>(args) >= 2 * kEnough;
    if (large && most_shared() >= kLargeShared<kType, 128, 128>) return launch_large<kType, 128, 128, 4>(stream, args);
    if (narrow * row_blocks<128>(args) >= kEnough && most_shared() >= kLargeShared<kType, 128, 64>) {
        return launch_large<kType, 128, 64, 2>(stream, args);
    }
    return launch_large<kType, 64, 64, 1>(stream, args);
}

// A block per tile: 16 rows of a group. Both types begin with an f16 scale; what lies beyond rows and columns is zero.
template <WeightType kType>
__global__ void repack_kernel(const uint8_t* blocks, uint32_t rows, uint32_t cols, uint8_t* tiles, uint16_t* scales) {
    constexpr uint32_t kBlockBytes = kWeightFormats[static_cast<uint32_t>(kType)].bytes;
    const uint32_t group = blockIdx.x;
    const uint32_t row = threadIdx.x / kGroup;
    const uint32_t col = threadIdx.x % kGroup;
    const auto block = [&](uint32_t r) -> const uint8_t* {
        const uint32_t at = blockIdx.y * kTileRows + r;
        if (at >= rows || group * kGroup >= cols) return nullptr;
        return blocks + (static_cast<size_t>(at) * (cols / kGroup) + group) * kBlockBytes;
    };
    const size_t tile = static_cast<size_t>(blockIdx.y) * gridDim.x + group;
    const uint8_t* own = block(row);
    if constexpr (kType == WeightType::kQ8_0) {
        tiles[tile * kTileBytes + weight_byte(row, col)] = own == nullptr ? 0 : own[2 + col];
    } else if (row < 8) {
        // n - 8 in four bits is n with its top bit turned.
        const auto nibble = [&](const uint8_t* from) {
            if (from == nullptr) return 0;
            const int32_t both = from[2 + col % 16];
            return (col < 16 ? both & 15 : both >> 4) ^ 8;
        };
        tiles[(tile - group % 2) * tile_bytes(kType) + nibble_byte(group, row, col)] =
            static_cast<uint8_t>(nibble(own) | nibble(block(row + 8)) << 4);
    }
    if (col != 0) return;
    const size_t super_block = tile / kGroupsPerSuperBlock;
    scales[(super_block * kTileRows + row) * kGroupsPerSuperBlock + group % kGroupsPerSuperBlock] =
        static_cast<uint16_t>(own == nullptr ? 0 : own[0] | own[1] << 8);
}

}  // namespace

cudaError_t repack(cudaStream_t stream, const uint8_t* blocks, const TiledMatrix& out, uint8_t* tiles,
                   uint16_t* scales) {
    const dim3 grid(padded_groups(out.cols), tiles_of(out.rows));
    const auto kernel =
        out.type == WeightType::kQ8_0 ? repack_kernel<WeightType::kQ8_0> : repack_kernel<WeightType::kQ4_0>;
    kernel<<<grid, kTileRows * kGroup, 0, stream>>>(blocks, out.rows, out.cols, tiles, scales);
    return cudaGetLastError();
}

ActivationOrder linear_order(const TiledMatrix& matrix, uint32_t tokens) {
    const bool wide = in_tiles(matrix) && tokens > kSmallTokens && has_warpgroups();
    return wide ? ActivationOrder::kCores : ActivationOrder::kLanes;
}

cudaError_t linear(cudaStream_t stream, const Linear& args) {
    if (args.x.order == ActivationOrder::kCores) return linear_wide(stream, args);
    const TiledMatrix& first = args.product[0].matrix;
    if (!in_tiles(first)) {
        return first.kind == ActivationKind::kA16 ? linear_records_16(stream, args) : linear_records_8(stream, args);
    }
    if (args.tokens <= kSmallTokens) return linear_small(stream, args);
    return first.type == WeightType::kQ8_0 ? linear_large<WeightType::kQ8_0>(stream, args)
                                           : linear_large<WeightType::kQ4_0>(stream, args);
}

}  // namespace driftwood::compute::cuda
