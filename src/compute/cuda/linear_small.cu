// Rule 3 on the card for few tokens (decode): what counts is to read the weights once, at the memory's speed. A block
// owns one or a few tiles of 16 rows; its warps take a super-block each, fetch weights straight into registers, the
// first ones before the kernel ahead has ended, and hand their partial sums t to the threads that add them up in order.
//
// With up to kFusedTokens tokens a block makes its activations itself, by the norm ahead of the layer: a few
// microseconds of one block, hidden behind the weights on their way. The feed-forward pair gives SILU(gate) · up, again
// as activations: 32 outputs of a block are a group.
#include "compute/constants.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kMostWarps = 16;
constexpr uint32_t kPairTiles = 4;  // of a block that makes a group of SILU(gate) · up: gate, up, gate, up

enum class From : uint8_t { kTiles, kFloats, kNorm };

// A warp's weights of one tile and super-block.
template <WeightType kType>
struct Piece {
    uint4 w[8 / kGroupsPerLoad<kType>];
    uint4 d0, d1;  // scales of rows g and g + 8
};

__device__ uint4 load_once(const void* from) {
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(from));
    return x;
}

template <WeightType kType>
__device__ void load_piece(Piece<kType>& piece, const TiledMatrix& matrix, uint32_t tile, uint32_t sb) {
    const uint32_t lane = threadIdx.x % 32;
    const size_t at = static_cast<size_t>(tile) * super_blocks_of(matrix.cols) + sb;
    const uint8_t* tiles = matrix.tiles + at * 8 * tile_bytes(kType) + lane * 16;
#pragma unroll
    for (uint32_t j = 0; j < 8 / kGroupsPerLoad<kType>; ++j) piece.w[j] = load_once(tiles + j * kTileBytes);
    const uint16_t* scales = matrix.scales + at * kScaleRow;
    piece.d0 = load_once(scales + lane / 4 * 8);
    piece.d1 = load_once(scales + (lane / 4 + 8) * 8);
}

// Half j of 8 halves that lie in 4 words, as a scale.
template <WeightType kType>
__device__ float scale_of(const uint4& halves, uint32_t j) {
    const uint32_t word = j / 2 == 0 ? halves.x : j / 2 == 1 ? halves.y : j / 2 == 2 ? halves.z : halves.w;
    return weight_scale<kType>(static_cast<uint16_t>(j % 2 == 0 ? word & 0xFFFFU : word >> 16));
}

// Activations of up to 8 tokens that a block made for itself.
struct Own {
    uint2* q;      // [group][lane]
    float* scale;  // [group (A256: super-block)][8 tokens]
};

template <WeightType kType, uint32_t kTokens, From kFrom>
__device__ void multiply_piece(const Piece<kType>& piece, const Linear& args, const Own& own, uint32_t sb,
                               uint32_t groups, float* part) {
    constexpr bool kScaled = kind_of(kType) == ActivationKind::kA32P;  // group by group
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    float sum[kTokens / 8][4] = {};
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        uint32_t a[4];
        operand<kType>(piece.w[j / kGroupsPerLoad<kType>], j % kGroupsPerLoad<kType>, a);
        const float da = scale_of<kType>(piece.d0, j);
        const float db = scale_of<kType>(piece.d1, j);
        const uint32_t group = sb * 8 + j;
#pragma unroll
        for (uint32_t n = 0; n < kTokens / 8; ++n) {
            const size_t tile = static_cast<size_t>(n / 2) * groups + group;
            uint2 b;
            if constexpr (kFrom != From::kTiles) {
                b = own.q[group * 32 + lane];
            } else {
                b = *reinterpret_cast<const uint2*>(args.x.q + tile * kTileBytes + lane * 16 + n % 2 * 8);
            }
            int32_t i[4] = {};
            mma_s8s8(i, a, b.x, b.y);
            float f[4];
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) f[k] = static_cast<float>(i[k]);
            if constexpr (kScaled) {
                const float* scale =
                    kFrom != From::kTiles ? own.scale + group * 8 : args.x.scale + tile * kTileRows + n % 2 * 8;
                const float2 s = *reinterpret_cast<const float2*>(scale + 2 * t);
#pragma unroll
                for (uint32_t k = 0; k < 4; ++k) f[k] = __fmul_rn(f[k], k % 2 == 0 ? s.x : s.y);
            }
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) sum[n][k] = __fmaf_rn(k < 2 ? da : db, f[k], sum[n][k]);
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < kTokens / 8; ++n) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) part[(n * 8 + 2 * t + i % 2) * kTileRows + g + i / 2 * 8] = sum[n][i];
    }
}

// A super-block's partial sum joins a row's sum.
template <WeightType kType, From kFrom>
__device__ float join(float acc, float part, const Linear& args, const Own& own, uint32_t sb, uint32_t super_blocks,
                      uint32_t token) {
    if constexpr (kind_of(kType) == ActivationKind::kA32P) return __fadd_rn(acc, part);
    const float s =
        kFrom != From::kTiles
            ? own.scale[sb * 8 + token]
            : args.x
                  .scale[(static_cast<size_t>(token / kTileRows) * super_blocks + sb) * kTileRows + token % kTileRows];
    return __fmaf_rn(part, s, acc);
}

// A super-block of a token becomes the block's own activations.
template <ActivationKind kKind>
__device__ bool store_own(const Own& own, const float (&x)[8], uint32_t sb, uint32_t token) {
    const uint32_t lane = threadIdx.x % 32;
    const SuperBlock<kKind> made = quantise_super_block<kKind>(x);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t group = sb * 8 + j;
        if (lane % 4 == 0) {
            // As activation_byte, for 8 tokens: the word of columns 16 h + 4 t… of lane 4 token + t.
            auto* words = reinterpret_cast<uint32_t*>(own.q + group * 32 + token * 4 + lane % 16 / 4);
            words[lane / 16] = made.word[j];
        }
        if constexpr (kKind == ActivationKind::kA32P) {
            if (lane == 0) own.scale[group * 8 + token] = made.scale[j];
        }
    }
    if constexpr (kKind != ActivationKind::kA32P) {
        if (lane == 0) own.scale[sb * 8 + token] = made.scale[0];
    }
    return made.finite;
}

// Floats as they are into the block's own activations.
template <ActivationKind kKind>
__device__ void quantise_tokens(const Linear& args, const Own& own) {
    const uint32_t cols = args.product[0].matrix.cols;
    for (uint32_t sb = threadIdx.x / 32; sb < super_blocks_of(cols); sb += blockDim.x / 32) {
        for (uint32_t token = 0; token < args.tokens; ++token) {
            float x[8];
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                const uint32_t i = sb * kSuperBlock + j * kGroup + threadIdx.x % 32;
                x[j] = i < cols ? args.norm.x[static_cast<size_t>(token) * cols + i] : 0.0F;
            }
            if (!store_own<kKind>(own, x, sb, token) && blockIdx.x == 0) {
                atomicMin(args.norm.fault + token, args.norm.code);
            }
        }
    }
    __syncthreads();
}

// RMSNorm and quantisation of all tokens into the block's own activations. A warp has a super-block of each token in
// its registers; `weight` are the norm's, fetched before.
template <ActivationKind kKind>
__device__ void norm_tokens(const Linear& args, const Own& own, const float (&weight)[8], float* block_sum) {
    const Linear::Norm& norm = args.norm;
    const uint32_t cols = args.product[0].matrix.cols;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t blocks = super_blocks_of(cols);
    float x[kFusedTokens][8];
    if (warp < blocks) {
#pragma unroll
        for (uint32_t token = 0; token < kFusedTokens; ++token) {
            if (token < args.tokens) {
                const float* row = norm.x + static_cast<size_t>(token) * cols;
                const float sum = block_of_squares(row, cols, warp, x[token]);
                if (lane == 0) block_sum[token * blocks + warp] = sum;
            }
        }
    }
    __syncthreads();
    if (warp < blocks) {
#pragma unroll
        for (uint32_t token = 0; token < kFusedTokens; ++token) {
            if (token >= args.tokens) break;
            bool finite = true;
            const float factor = norm_factor(block_sum + token * blocks, cols, norm.eps, finite);
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) x[token][j] = __fmul_rn(__fmul_rn(x[token][j], factor), weight[j]);
            finite &= store_own<kKind>(own, x[token], warp, token);
            if (!finite && blockIdx.x == 0) atomicMin(norm.fault + token, norm.code);
        }
    }
    __syncthreads();
}

// Tile number i of a block, among all of the products' tiles.
template <bool kPair>
__device__ Linear::Product tile_product(const Linear& args, uint32_t tiles, uint32_t i, uint32_t& tile) {
    if constexpr (kPair) {
        tile = blockIdx.x * 2 + i / 2;
        return args.product[i % 2];
    }
    return product_of(args, blockIdx.x * tiles + i, kTileRows, tile);
}

template <WeightType kType, uint32_t kTokens, From kFrom, bool kPair>
__global__ void __launch_bounds__(kMostWarps * 32) linear_small_kernel(Linear args, uint32_t tiles_each) {
    constexpr uint32_t kOutputs = kTileRows * kTokens;
    const uint32_t warps = blockDim.x / 32;
    extern __shared__ __align__(16) float shared[];
    float* part = shared;                          // [2][warps][kOutputs]
    float* results = part + 2 * warps * kOutputs;  // [kPairTiles][kOutputs], of pairs
    float* block_sum = results + (kPair ? kPairTiles * kOutputs : 0);
    const uint32_t super_blocks = super_blocks_of(args.product[0].matrix.cols);
    const uint32_t groups = super_blocks * kGroupsPerSuperBlock;
    Own own;
    own.scale = block_sum + super_blocks * kTokens;
    own.q = reinterpret_cast<uint2*>(own.scale + groups * 8);
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t rounds = (super_blocks + warps - 1) / warps;
    const uint32_t tiles = kPair ? kPairTiles : min(tiles_each, args.row_tiles - blockIdx.x * tiles_each);

    const auto load = [&](Piece<kType>& piece, uint32_t item) {
        const uint32_t sb = item % rounds * warps + warp;
        uint32_t tile = 0;
        const Linear::Product product = tile_product<kPair>(args, tiles_each, item / rounds, tile);
        if (sb < super_blocks) load_piece(piece, product.matrix, tile, sb);
    };
    Piece<kType> now, next;
    load(now, 0);
    float norm_weight[8];
    if constexpr (kFrom == From::kNorm) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const uint32_t i = warp * kSuperBlock + j * 32 + threadIdx.x % 32;
            norm_weight[j] = i < args.product[0].matrix.cols ? args.norm.weight[i] : 0.0F;
        }
    }
    wait_for_previous();
    if constexpr (kFrom == From::kNorm) norm_tokens<kind_of(kType)>(args, own, norm_weight, block_sum);
    if constexpr (kFrom == From::kFloats) quantise_tokens<kind_of(kType)>(args, own);

    constexpr uint32_t kEach = kOutputs <= 128 ? 1 : kOutputs / 128;  // outputs of a thread: there are 128 at least
    float acc[kEach] = {};
    for (uint32_t item = 0; item < tiles * rounds; ++item) {
        if (item + 1 < tiles * rounds) load(next, item + 1);
        const uint32_t first = item % rounds * warps;
        float* round = part + item % 2 * warps * kOutputs;
        if (first + warp < super_blocks) {
            multiply_piece<kType, kTokens, kFrom>(now, args, own, first + warp, groups, round + warp * kOutputs);
        }
        __syncthreads();
        const bool last = item % rounds + 1 == rounds;
        uint32_t tile = 0;
        const Linear::Product product = tile_product<kPair>(args, tiles_each, item / rounds, tile);
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            const uint32_t output = e * blockDim.x + threadIdx.x;
            if (output >= kOutputs) break;
            for (uint32_t i = 0; i < min(warps, super_blocks - first); ++i) {
                acc[e] = join<kType, kFrom>(acc[e], round[i * kOutputs + output], args, own, first + i, super_blocks,
                                            output / kTileRows);
            }
            if (!last) continue;
            if constexpr (kPair) {
                results[item / rounds * kOutputs + output] = acc[e];
            } else {
                put(args, product, tile * kTileRows + output % kTileRows, output / kTileRows, acc[e]);
            }
            acc[e] = 0.0F;
        }
        now = next;
    }
    if constexpr (kPair) {
        __syncthreads();
        const uint32_t lane = threadIdx.x % 32;
        for (uint32_t token = warp; token < args.tokens; token += warps) {
            const float* gate = results + lane / 16 * 2 * kOutputs + token * kTileRows + lane % 16;
            const float value = __fmul_rn(silu(gate[0]), gate[kOutputs]);
            const uint32_t rows = args.product[0].matrix.rows;
            if constexpr (kind_of(kType) == ActivationKind::kA32P) {
                if (!store_group(args.pair, token, blockIdx.x, padded_groups(rows), value)) {
                    atomicMin(args.fault + token, args.code);
                }
            } else {
                args.product[0].y[static_cast<size_t>(token) * rows + blockIdx.x * 32 + lane] = value;
            }
        }
    }
}

template <WeightType kType, uint32_t kTokens, From kFrom, bool kPair>
cudaError_t launch(cudaStream_t stream, Linear args) {
    const uint32_t super_blocks = super_blocks_of(args.product[0].matrix.cols);
    const uint32_t warps = super_blocks > 8 ? kMostWarps : super_blocks > 4 ? 8 : 4;
    constexpr uint32_t kOutputs = kTileRows * kTokens;
    size_t shared = 2 * warps * kOutputs * sizeof(float);
    if (kPair) shared += kPairTiles * kOutputs * sizeof(float);
    if (kFrom != From::kTiles) {
        shared += super_blocks * (kTokens * sizeof(float) + 8 * (8 * sizeof(float) + 32 * sizeof(uint2)));
    }
    const auto kernel = linear_small_kernel<kType, kTokens, kFrom, kPair>;
    const cudaError_t allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (allowed != cudaSuccess) return allowed;
    args.row_tiles = 0;
    for (uint32_t i = 0; i < args.products; ++i) args.row_tiles += tiles_of(args.product[i].matrix.rows);
    // Matrices of many rows: a few tiles a block, one on its way while another is multiplied.
    const uint32_t each = args.row_tiles >= 2048 ? 4 : 1;
    const uint32_t blocks = kPair ? args.row_tiles / kPairTiles : (args.row_tiles + each - 1) / each;
    return launch_overlapping(kernel, dim3(blocks), warps * 32, shared, stream, args, each);
}

template <WeightType kType>
cudaError_t launch_type(cudaStream_t stream, const Linear& args) {
    const bool norm = args.norm.x != nullptr && args.norm.weight != nullptr;
    if (args.norm.x != nullptr && !norm) return launch<kType, 8, From::kFloats, false>(stream, args);
    if (norm && args.is_pair) return launch<kType, 8, From::kNorm, true>(stream, args);
    if (norm) return launch<kType, 8, From::kNorm, false>(stream, args);
    if (args.is_pair) return launch<kType, 8, From::kTiles, true>(stream, args);
    if (args.tokens <= 8) return launch<kType, 8, From::kTiles, false>(stream, args);
    if (args.tokens <= 16) return launch<kType, 16, From::kTiles, false>(stream, args);
    return launch<kType, 32, From::kTiles, false>(stream, args);
}

}  // namespace

cudaError_t linear_small(cudaStream_t stream, const Linear& args) {
    return args.product[0].matrix.type == WeightType::kQ8_0 ? launch_type<WeightType::kQ8_0>(stream, args)
                                                            : launch_type<WeightType::kQ4_0>(stream, args);
}

}  // namespace driftwood::compute::cuda
