// Rule 3 over records for few tokens (decode): what counts is to read the weights once, at the memory's speed. A block
// owns a few tiles of 16 rows; its warps take a super-block each. Every warp has a ring of records in shared memory,
// which it fills for itself, the first ones before the kernel ahead has ended. The warps' partial sums t go to threads
// that add them up in order.
//
// With up to kFusedTokens tokens a block makes its activations itself, after the norm ahead of the layer where there is
// one. A pair of products gives SILU(gate) · up.
#pragma once

#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/multiply.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

inline constexpr uint32_t kRingBytes = 9600;  // of a warp, at least one record

template <WeightType kType>
inline constexpr uint32_t kRingSlots = kRingBytes / sizeof(Record<kType>);
template <uint32_t kColumns>
inline constexpr uint32_t kMostSmallWarps = kColumns == 8 ? 16 : 8;

// Where a block has what, in floats from the start of its shared memory behind the rings.
struct SmallPlan {
    uint32_t warps = 0;
    uint32_t tiles = 0;        // of a block
    uint32_t own_columns = 0;  // columns of its own activations, a power of two
};

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
class SmallBlock {
  public:
    static constexpr uint32_t kTokens = kColumns / kDigits<kKind>;
    static constexpr uint32_t kOutputs = kTileRows * kTokens;  // of a tile
    static constexpr uint32_t kSlots = kRingSlots<kType>;
    static constexpr uint32_t kEach = kOutputs <= 128 ? 1 : kOutputs / 128;  // of a thread: there are 128 at least

    static size_t shared_bytes(const SmallPlan& plan, uint32_t super_blocks) {
        size_t size = plan.warps * kSlots * sizeof(Record<kType>) + 2 * plan.warps * kOutputs * sizeof(float);
        if (kOwn) size += super_blocks * (kFusedTokens * 2 * sizeof(float) + 8 * plan.own_columns * 4 * sizeof(uint2));
        return size;
    }

    __device__ SmallBlock(const Linear& args, const SmallPlan& plan, uint8_t* shared)
        : args_(args), plan_(plan), super_blocks_(super_blocks_of(args.product[0].matrix.cols)) {
        warp_ = threadIdx.x / 32;
        lane_ = threadIdx.x % 32;
        rounds_ = (super_blocks_ + plan.warps - 1) / plan.warps;
        const uint32_t first = blockIdx.x * plan.tiles;
        items_ = min(plan.tiles, args.row_tiles - first) * rounds_;
        auto* rings = reinterpret_cast<Record<kType>*>(shared);
        ring_ = rings + warp_ * kSlots;
        part_ = reinterpret_cast<float*>(rings + plan.warps * kSlots);
        own_q_ = reinterpret_cast<uint2*>(part_ + 2 * plan.warps * kOutputs);
        own_scale_ = reinterpret_cast<float*>(own_q_ + super_blocks_ * 8 * plan.own_columns * 4);
        block_sum_ = own_scale_ + super_blocks_ * kFusedTokens;
    }

    __device__ void run() {
        for (uint32_t item = 0; item < kSlots; ++item) fetch(item);
        if constexpr (kOwn) prefetch_norm();
        wait_for_previous();
        if constexpr (kOwn) make_own();
        float acc[kEach] = {};
        float gate[kEach] = {};
        for (uint32_t item = 0; item < items_; ++item) {
            cp_async_wait<kSlots - 1>();
            __syncwarp();
            float* round = part_ + item % 2 * plan_.warps * kOutputs;
            const uint32_t first = item % rounds_ * plan_.warps;
            if (first + warp_ < super_blocks_) multiply_item(item, round + warp_ * kOutputs);
            __syncwarp();
            fetch(item + kSlots);
            __syncthreads();
            join(round, first, acc);
            if (item % rounds_ + 1 == rounds_) finish(item / rounds_, acc, gate);
        }
    }

  private:
    // Tile number i of the block, among all of the products'; of a pair's, gate and up by turns.
    __device__ Linear::Product tile_product(uint32_t i, uint32_t& tile) const {
        const uint32_t global = blockIdx.x * plan_.tiles + i;
        if (!args_.is_pair) return product_of(args_, global, kTileRows, tile);
        tile = global / 2;
        return args_.product[global % 2];
    }

    // Has the warp's record of an item on its way into the ring.
    __device__ void fetch(uint32_t item) {
        const uint32_t sb = item % rounds_ * plan_.warps + warp_;
        if (item < items_ && sb < super_blocks_) {
            uint32_t tile = 0;
            const Linear::Product product = tile_product(item / rounds_, tile);
            const auto* records = reinterpret_cast<const Record<kType>*>(product.matrix.tiles);
            const auto* from = reinterpret_cast<const uint4*>(records + static_cast<size_t>(tile) * super_blocks_ + sb);
            auto* to = reinterpret_cast<uint4*>(ring_ + item % kSlots);
            constexpr uint32_t kPieces = sizeof(Record<kType>) / sizeof(uint4);
#pragma unroll
            for (uint32_t i = 0; i < (kPieces + 31) / 32; ++i) {
                if (i * 32 + lane_ < kPieces) cp_async_16(to + i * 32 + lane_, from + i * 32 + lane_);
            }
        }
        cp_async_commit();
    }

    __device__ void multiply_item(uint32_t item, float* out) const {
        const uint32_t sb = item % rounds_ * plan_.warps + warp_;
        const Record<kType>* const record[1] = {ring_ + item % kSlots};
        const uint32_t g = lane_ / 4;
        const uint32_t t = lane_ % 4;
        Partials<kKind, 1, kColumns / 8> partial;
        if constexpr (kOwn) {
            // Columns without a token repeat others.
            const uint2* own = own_q_ + sb * 8 * plan_.own_columns * 4 + (g & (plan_.own_columns - 1)) * 4 + t;
            const auto columns = [&](uint32_t j, uint32_t) { return own[j * plan_.own_columns * 4]; };
            multiply<kType, kKind, 1, kColumns / 8>(record, columns, partial);
        } else {
            const auto columns = [&](uint32_t j, uint32_t n) {
                const size_t tile = (static_cast<size_t>(n / 2) * super_blocks_ + sb) * 8 + j;
                return *reinterpret_cast<const uint2*>(args_.x.q + tile * kTileBytes + lane_ * 16 + n % 2 * 8);
            };
            multiply<kType, kKind, 1, kColumns / 8>(record, columns, partial);
        }
#pragma unroll
        for (uint32_t n = 0; n < kColumns / 8; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < kLaneOutputs<kKind>; ++k) {
                const uint32_t token = n * (8 / kDigits<kKind>)+output_token<kKind>(k);
                out[token * kTileRows + g + 8 * output_row<kKind>(k)] = partial[0][n][k];
            }
        }
    }

    __device__ float activation_scale(uint32_t sb, uint32_t token) const {
        if constexpr (kOwn) return own_scale_[sb * kFusedTokens + token];
        const uint32_t column = token * kDigits<kKind>;
        const size_t tile = static_cast<size_t>(column / kTileRows) * super_blocks_ + sb;
        return args_.x.scale[tile * kTileRows + column % kTileRows];
    }

    // A round's partial sums join the outputs' sums.
    __device__ void join(const float* round, uint32_t first, float (&acc)[kEach]) const {
        const uint32_t count = min(plan_.warps, super_blocks_ - first);
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            const uint32_t output = e * blockDim.x + threadIdx.x;
            const uint32_t token = output / kTileRows;
            if (output >= kOutputs || token >= args_.tokens) break;
#pragma unroll 4
            for (uint32_t i = 0; i < count; ++i) {
                acc[e] = __fmaf_rn(round[i * kOutputs + output], activation_scale(first + i, token), acc[e]);
            }
        }
    }

    // A tile's outputs are whole.
    __device__ void finish(uint32_t i, float (&acc)[kEach], float (&gate)[kEach]) const {
        uint32_t tile = 0;
        const Linear::Product product = tile_product(i, tile);
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            const uint32_t output = e * blockDim.x + threadIdx.x;
            const float value = acc[e];
            acc[e] = 0.0F;
            if (output >= kOutputs) break;
            const uint32_t row = tile * kTileRows + output % kTileRows;
            if (!args_.is_pair) {
                put(args_, product, row, output / kTileRows, value);
            } else if (i % 2 == 0) {
                gate[e] = value;
            } else if (row < product.matrix.rows && output / kTileRows < args_.tokens) {
                float* y = args_.product[0].y + static_cast<size_t>(output / kTileRows) * product.matrix.rows;
                y[row] = __fmul_rn(silu(gate[e]), value);
            }
        }
    }

    // The norm's weights never change, and are rarely in the cache.
    __device__ void prefetch_norm() const {
        const uint32_t cols = args_.product[0].matrix.cols;
        if (args_.norm.weight == nullptr) return;
        for (uint32_t i = threadIdx.x * kGroup; i < cols; i += blockDim.x * kGroup) {
            asm volatile("prefetch.global.L2 [%0];" ::"l"(args_.norm.weight + i));
        }
    }

    __device__ void make_own() {
        const Linear::Norm& norm = args_.norm;
        const uint32_t cols = args_.product[0].matrix.cols;
        if (norm.weight != nullptr) {
            for (uint32_t token = 0; token < args_.tokens; ++token) {
                for (uint32_t sb = warp_; sb < super_blocks_; sb += plan_.warps) {
                    float x[8];
                    const float sum = block_of_squares(norm.x + static_cast<size_t>(token) * cols, cols, sb, x);
                    if (lane_ == 0) block_sum_[token * super_blocks_ + sb] = sum;
                }
            }
            __syncthreads();
        }
        for (uint32_t token = 0; token < args_.tokens; ++token) {
            bool finite = true;
            float factor = 1.0F;
            if (norm.weight != nullptr) {
                factor = norm_factor(block_sum_ + token * super_blocks_, cols, norm.eps, finite);
            }
            for (uint32_t sb = warp_; sb < super_blocks_; sb += plan_.warps) {
                float x[8];
#pragma unroll
                for (uint32_t j = 0; j < 8; ++j) {
                    const uint32_t i = sb * kSuperBlock + j * kGroup + lane_;
                    x[j] = i < cols ? norm.x[static_cast<size_t>(token) * cols + i] : 0.0F;
                    if (norm.weight != nullptr && i < cols) {
                        x[j] = __fmul_rn(__fmul_rn(x[j], factor), norm.weight[i]);
                    }
                }
                finite &= store_own(x, sb, token);
            }
            if (!finite && blockIdx.x == 0) atomicMin(norm.fault + token, norm.code);
        }
        __syncthreads();
    }

    // A super-block of a token becomes the block's own activations.
    __device__ bool store_own(const float (&x)[8], uint32_t sb, uint32_t token) const {
        auto* words = reinterpret_cast<uint32_t*>(own_q_ + sb * 8 * plan_.own_columns * 4);
        const auto store = [&](uint32_t j, uint32_t column, uint32_t word) {
            if (lane_ % 4 != 0) return;
            words[((j * plan_.own_columns + column) * 4 + lane_ % 16 / 4) * 2 + lane_ / 16] = word;
        };
        if constexpr (kKind == ActivationKind::kA16) {
            const SuperBlock16 made = quantise_super_block_16(x);
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                store(j, 2 * token, made.high[j]);
                store(j, 2 * token + 1, made.low[j]);
            }
            if (lane_ == 0) own_scale_[sb * kFusedTokens + token] = made.scale;
            return made.finite;
        } else {
            const SuperBlock<kKind> made = quantise_super_block<kKind>(x);
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) store(j, token, made.word[j]);
            if (lane_ == 0) own_scale_[sb * kFusedTokens + token] = made.scale[0];
            return made.finite;
        }
    }

    const Linear& args_;
    const SmallPlan& plan_;
    uint32_t super_blocks_, warp_, lane_, rounds_, items_;
    Record<kType>* ring_;  // the warp's
    float* part_;          // [2][warps][kOutputs]
    uint2* own_q_;         // [group][column][4]
    float* own_scale_;     // [super-block][kFusedTokens]
    float* block_sum_;     // [token][super-block]
};

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
__global__ void __launch_bounds__(kMostSmallWarps<kColumns> * 32)
    linear_records_small_kernel(const __grid_constant__ Linear args, const __grid_constant__ SmallPlan plan) {
    extern __shared__ __align__(128) uint8_t shared[];
    SmallBlock<kType, kKind, kColumns, kOwn>(args, plan, shared).run();
}

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
cudaError_t launch_records_small(cudaStream_t stream, Linear args) {
    using Block = SmallBlock<kType, kKind, kColumns, kOwn>;
    const uint32_t super_blocks = super_blocks_of(args.product[0].matrix.cols);
    args.row_tiles = 0;
    for (uint32_t i = 0; i < args.products; ++i) args.row_tiles += tiles_of(args.product[i].matrix.rows);
    SmallPlan plan;
    plan.warps = super_blocks > 8 ? kMostSmallWarps<kColumns> : super_blocks > 4 ? 8 : 4;
    plan.own_columns = (args.tokens > 1 ? 2 : 1) * kDigits<kKind>;
    static const uint32_t kMostShared = card_has(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    static const uint32_t kAtOnce = 2 * card_has(cudaDevAttrMultiProcessorCount);
    while (plan.warps > 4 && Block::shared_bytes(plan, super_blocks) > kMostShared) plan.warps /= 2;
    // All blocks at once, two on a multiprocessor; whole pairs.
    plan.tiles = (args.row_tiles + kAtOnce - 1) / kAtOnce;
    if (args.is_pair) plan.tiles += plan.tiles % 2;
    const size_t shared = Block::shared_bytes(plan, super_blocks);
    const auto kernel = linear_records_small_kernel<kType, kKind, kColumns, kOwn>;
    const cudaError_t allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (allowed != cudaSuccess) return allowed;
    const dim3 blocks((args.row_tiles + plan.tiles - 1) / plan.tiles);
    return launch_overlapping(kernel, blocks, plan.warps * 32, shared, stream, args, plan);
}

}  // namespace driftwood::compute::cuda
