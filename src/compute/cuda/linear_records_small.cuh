// Rule 3 over records for few tokens (decode): what counts is to read the weights once, at the memory's speed. A block
// owns a few tiles of 16 rows; its warps take a super-block each. Every warp has a ring of records in shared memory,
// which it fills for itself, the first ones before the kernel ahead has ended. The warps' partial sums t go to threads
// that add them up in order.
//
// With up to kFusedTokens tokens a block makes its activations itself, after the norm ahead of the layer where there is
// one. A pair of products gives SILU(gate) · up.
#pragma once

#include <algorithm>

#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/multiply.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

// A warp's ring: so many bytes of records, at least one of them and at most kMostSlots.
inline constexpr uint32_t kRingBytes = 10240;
inline constexpr uint32_t kMostSlots = 4;
template <uint32_t kColumns>
inline constexpr uint32_t kMostSmallWarps = kColumns == 8 ? 16 : 8;

struct SmallPlan {
    uint32_t warps = 0;
    uint32_t slots = 0;
    uint32_t tiles = 0;        // of a block, at most kMostTiles
    uint32_t batch = 0;        // tiles whose partial sums are added up together, at most kBatch; even for a pair
    uint32_t own_columns = 0;  // columns of its own activations, a power of two
};
inline constexpr uint32_t kMostTiles = 64;

// A block's tile of rows.
struct SmallTile {
    const uint8_t* records;
    float* y;  // of token 0 and the tile's first row
    uint32_t product_rows;
    uint32_t rows;  // that there are
};

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
class SmallBlock {
  public:
    static constexpr uint32_t kTokens = kOwn ? kFusedTokens : kColumns / kDigits<kKind>;
    static constexpr uint32_t kOutputs = kTileRows * kTokens;  // of a tile
    static constexpr uint32_t kBatch = kOwn ? 4 : 2;
    static constexpr uint32_t kEach = (kBatch * kOutputs + 127) / 128;  // of a thread: there are 128 at least

    static size_t shared_bytes(const SmallPlan& plan, uint32_t super_blocks) {
        size_t size = plan.warps * plan.slots * sizeof(Record<kType>) + plan.tiles * sizeof(SmallTile);
        size += 2 * plan.batch * plan.warps * kOutputs * sizeof(float);
        if (kOwn) size += super_blocks * (kFusedTokens * 2 * sizeof(float) + 8 * plan.own_columns * 4 * sizeof(uint2));
        return size;
    }

    __device__ SmallBlock(const Linear& args, const SmallPlan& plan, uint8_t* shared)
        : args_(args), plan_(plan), super_blocks_(super_blocks_of(args.product[0].matrix.cols)) {
        warp_ = threadIdx.x / 32;
        lane_ = threadIdx.x % 32;
        rounds_ = (super_blocks_ + plan.warps - 1) / plan.warps;
        tiles_ = min(plan.tiles, args.row_tiles - blockIdx.x * plan.tiles);
        auto* rings = reinterpret_cast<Record<kType>*>(shared);
        ring_ = rings + warp_ * plan.slots;
        tile_ = reinterpret_cast<SmallTile*>(rings + plan.warps * plan.slots);
        part_ = reinterpret_cast<float*>(tile_ + plan.tiles);
        own_q_ = reinterpret_cast<uint2*>(part_ + 2 * plan.batch * plan.warps * kOutputs);
        own_scale_ = reinterpret_cast<float*>(own_q_ + super_blocks_ * 8 * plan.own_columns * 4);
        block_sum_ = own_scale_ + super_blocks_ * kFusedTokens;
    }

    __device__ void run() {
        if (threadIdx.x < tiles_) tile_[threadIdx.x] = tile_of(blockIdx.x * plan_.tiles + threadIdx.x);
        __syncthreads();
        for (uint32_t i = 0; i < plan_.slots; ++i) fetch();
        float weight[8];
        if constexpr (kOwn) load_norm(weight);
        wait_for_previous();
        if constexpr (kOwn) make_own(weight);
        for (uint32_t first = 0; first < tiles_; first += plan_.batch) {
            const uint32_t count = min(plan_.batch, tiles_ - first);
            float acc[kEach] = {};
            float old[kEach] = {};
            if (args_.add) load_old(first, count, old);
            for (uint32_t round = 0; round < rounds_; ++round) {
                float* part = part_ + parity_ * plan_.batch * plan_.warps * kOutputs;
                parity_ ^= 1;
                multiply_round(round, count, part);
                __syncthreads();
                join(part, round * plan_.warps, count, acc);
            }
            finish(first, count, acc, old);
        }
    }

  private:
    // Tile number i of all of the products'; of a pair's, gate and up by turns.
    __device__ SmallTile tile_of(uint32_t i) const {
        uint32_t tile = i / 2;
        const Linear::Product product = args_.is_pair ? args_.product[i % 2] : product_of(args_, i, kTileRows, tile);
        const size_t bytes = super_blocks_ * sizeof(Record<kType>);
        const uint32_t row = tile * kTileRows;
        return {product.matrix.tiles + tile * bytes, (args_.is_pair ? args_.product[0].y : product.y) + row,
                product.matrix.rows, min(kTileRows, product.matrix.rows - row)};
    }

    __device__ bool to_fetch() const { return fetch_first_ < tiles_; }

    // Has the warp's next record on its way into the ring: batch by batch, round by round, tile by tile.
    __device__ void fetch() {
        const uint32_t sb = fetch_round_ * plan_.warps + warp_;
        if (to_fetch() && sb < super_blocks_) {
            const auto* from =
                reinterpret_cast<const uint4*>(tile_[fetch_first_ + fetch_tile_].records + sb * sizeof(Record<kType>)) +
                lane_;
            auto* to = reinterpret_cast<uint4*>(ring_ + fetch_slot_) + lane_;
            constexpr uint32_t kPieces = sizeof(Record<kType>) / sizeof(uint4);
#pragma unroll
            for (uint32_t i = 0; i < kPieces / 32; ++i) cp_async_16(to + i * 32, from + i * 32);
            if constexpr (kPieces % 32 != 0) {
                if (lane_ < kPieces % 32) cp_async_16(to + kPieces / 32 * 32, from + kPieces / 32 * 32);
            }
        }
        cp_async_commit();
        fetch_slot_ = fetch_slot_ + 1 == plan_.slots ? 0 : fetch_slot_ + 1;
        if (++fetch_tile_ < min(plan_.batch, tiles_ - fetch_first_)) return;
        fetch_tile_ = 0;
        if (++fetch_round_ < rounds_) return;
        fetch_round_ = 0;
        fetch_first_ = min(fetch_first_ + plan_.batch, tiles_);
    }

    // Until all but the last slots - 1 records that were asked for are there.
    __device__ void wait_for_record() const {
        static_assert(kMostSlots == 4);
        if (plan_.slots == 1) {
            cp_async_wait<0>();
        } else if (plan_.slots == 2) {
            cp_async_wait<1>();
        } else if (plan_.slots == 3) {
            cp_async_wait<2>();
        } else {
            cp_async_wait<3>();
        }
    }

    __device__ void multiply_round(uint32_t round, uint32_t count, float* part) {
        const uint32_t sb = round * plan_.warps + warp_;
        for (uint32_t i = 0; i < count; ++i) {
            wait_for_record();
            __syncwarp();
            if (sb < super_blocks_) multiply_tile(sb, part + (i * plan_.warps + warp_) * kOutputs);
            __syncwarp();
            slot_ = slot_ + 1 == plan_.slots ? 0 : slot_ + 1;
            fetch();
        }
    }

    __device__ void multiply_tile(uint32_t sb, float* out) const {
        const Record<kType>* const record[1] = {ring_ + slot_};
        const uint32_t g = lane_ / 4;
        const uint32_t t = lane_ % 4;
        Partials<kKind, 1, kColumns / 8> partial;
        if constexpr (kOwn) {
            // Columns without a token repeat others.
            const uint2* own = own_q_ + sb * 8 * plan_.own_columns * 4 + (g & (plan_.own_columns - 1)) * 4 + t;
            const auto columns = [&](uint32_t j, uint32_t) { return own[j * plan_.own_columns * 4]; };
            multiply<kType, kKind, 1, kColumns / 8>(record, columns, partial);
        } else {
            const uint8_t* q = args_.x.q + static_cast<size_t>(sb) * 8 * kTileBytes + lane_ * 16;
            const size_t tile_bytes = static_cast<size_t>(super_blocks_) * 8 * kTileBytes;
            const auto columns = [&](uint32_t j, uint32_t n) {
                return *reinterpret_cast<const uint2*>(q + n / 2 * tile_bytes + j * kTileBytes + n % 2 * 8);
            };
            multiply<kType, kKind, 1, kColumns / 8>(record, columns, partial);
        }
#pragma unroll
        for (uint32_t n = 0; n < kColumns / 8; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < kLaneOutputs<kKind>; ++k) {
                const uint32_t token = n * (8 / kDigits<kKind>)+output_token<kKind>(k);
                if (kOwn && token >= kTokens) continue;
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

    // A thread's output e: tile of the batch, token, row. Of a pair, neighbouring threads have gate and up.
    struct Output {
        uint32_t tile, token, row;
        bool there;
    };
    __device__ Output output(uint32_t e, uint32_t count) const {
        const uint32_t i = e * blockDim.x + threadIdx.x;
        const uint32_t pair = args_.is_pair ? 1 : 0;
        const uint32_t inside = i >> pair;
        Output out{inside / kOutputs << pair | (i & pair), inside / kTileRows % kTokens, inside % kTileRows, false};
        out.there = out.tile < count && out.token < args_.tokens;
        return out;
    }

    // A round's partial sums join the outputs' sums.
    __device__ void join(const float* part, uint32_t first, uint32_t count, float (&acc)[kEach]) const {
        const uint32_t blocks = min(plan_.warps, super_blocks_ - first);
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            const Output out = output(e, count);
            if (!out.there) continue;
            const float* from = part + out.tile * plan_.warps * kOutputs + out.token * kTileRows + out.row;
#pragma unroll 4
            for (uint32_t i = 0; i < blocks; ++i) {
                acc[e] = __fmaf_rn(from[i * kOutputs], activation_scale(first + i, out.token), acc[e]);
            }
        }
    }

    // Where an output of the batch that begins with tile `first` goes; null for what there is not.
    __device__ float* place(uint32_t first, const Output& out) const {
        if (!out.there) return nullptr;
        const SmallTile& tile = tile_[first + out.tile];
        if (out.row >= tile.rows) return nullptr;
        return tile.y + static_cast<size_t>(out.token) * tile.product_rows + out.row;
    }

    // What the outputs are added to, fetched before there is anything to add.
    __device__ void load_old(uint32_t first, uint32_t count, float (&old)[kEach]) const {
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            const float* y = place(first, output(e, count));
            if (y != nullptr) old[e] = *y;
        }
    }

    // The outputs of a batch are whole.
    __device__ void finish(uint32_t first, uint32_t count, const float (&acc)[kEach], const float (&old)[kEach]) const {
#pragma unroll
        for (uint32_t e = 0; e < kEach; ++e) {
            float value = acc[e];
            const Output out = output(e, count);
            if (args_.is_pair) {
                const float gate = __shfl_xor_sync(kAllLanes, value, 1);
                value = __fmul_rn(silu(gate), value);
            }
            float* y = place(first, out);
            if (y == nullptr) continue;
            if (args_.is_pair) {
                if (out.tile % 2 == 1) *y = value;
                continue;
            }
            *y = args_.add ? __fadd_rn(old[e], value) : value;
            if (args_.fault != nullptr && magnitude_bits(value) >= kInfinityBits) {
                atomicMin(args_.fault + args_.source[out.token], args_.code);
            }
        }
    }

    // The norm's weights for the warp's first super-block, which never change and are rarely in the cache.
    __device__ void load_norm(float (&weight)[8]) const {
        const uint32_t cols = args_.product[0].matrix.cols;
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const uint32_t i = warp_ * kSuperBlock + j * kGroup + lane_;
            weight[j] = args_.norm.weight != nullptr && i < cols ? args_.norm.weight[i] : 0.0F;
        }
    }

    __device__ void make_own(const float (&weight)[8]) {
        const Linear::Norm& norm = args_.norm;
        const uint32_t cols = args_.product[0].matrix.cols;
        if (norm.weight != nullptr) {
            for (uint32_t token = 0; token < args_.tokens; ++token) {
#pragma unroll 2
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
#pragma unroll 2
            for (uint32_t sb = warp_; sb < super_blocks_; sb += plan_.warps) {
                float x[8];
#pragma unroll
                for (uint32_t j = 0; j < 8; ++j) {
                    const uint32_t i = sb * kSuperBlock + j * kGroup + lane_;
                    x[j] = i < cols ? norm.x[static_cast<size_t>(token) * cols + i] : 0.0F;
                    if (norm.weight != nullptr && i < cols) {
                        x[j] = __fmul_rn(__fmul_rn(x[j], factor), sb == warp_ ? weight[j] : norm.weight[i]);
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
    uint32_t super_blocks_, warp_, lane_, rounds_, tiles_;
    uint32_t slot_ = 0, parity_ = 0;
    uint32_t fetch_first_ = 0, fetch_round_ = 0, fetch_tile_ = 0, fetch_slot_ = 0;
    Record<kType>* ring_;  // the warp's
    SmallTile* tile_;      // [tiles]
    float* part_;          // [2][batch][warps][kOutputs]
    uint2* own_q_;         // [group][column][4]
    float* own_scale_;     // [super-block][kFusedTokens]
    float* block_sum_;     // [token][super-block]
};

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
__global__ void __launch_bounds__(kMostSmallWarps<kColumns> * 32, kColumns == 8 ? 1 : 2)
    linear_records_small_kernel(const __grid_constant__ Linear args, const __grid_constant__ SmallPlan plan) {
    extern __shared__ __align__(128) uint8_t shared[];
    SmallBlock<kType, kKind, kColumns, kOwn>(args, plan, shared).run();
}

template <WeightType kType, ActivationKind kKind, uint32_t kColumns, bool kOwn>
cudaError_t launch_records_small(cudaStream_t stream, Linear args) {
    using Block = SmallBlock<kType, kKind, kColumns, kOwn>;
    static const uint32_t kMostShared = card_has(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    static const uint32_t kAtOnce = 2 * card_has(cudaDevAttrMultiProcessorCount);
    const uint32_t super_blocks = super_blocks_of(args.product[0].matrix.cols);
    args.row_tiles = 0;
    for (uint32_t i = 0; i < args.products; ++i) args.row_tiles += tiles_of(args.product[i].matrix.rows);
    // As many warps as fill a tile: how long a block takes is how long its warps take, one after the other.
    SmallPlan plan;
    plan.warps = std::min(super_blocks > 8 ? 16U : super_blocks > 4 ? 8U : 4U, kMostSmallWarps<kColumns>);
    plan.slots = std::clamp<uint32_t>(kRingBytes / sizeof(Record<kType>), 1, kMostSlots);
    plan.own_columns = (args.tokens > 1 ? 2 : 1) * kDigits<kKind>;
    // All blocks at once, two on a multiprocessor; whole pairs.
    const uint32_t pair = args.is_pair ? 2 : 1;
    plan.tiles = std::min((args.row_tiles + kAtOnce - 1) / kAtOnce, kMostTiles);
    plan.tiles = (plan.tiles + pair - 1) / pair * pair;
    plan.batch = std::min(plan.tiles, kColumns == 8 ? Block::kBatch : pair);
    while (plan.warps > 4 && Block::shared_bytes(plan, super_blocks) > kMostShared) plan.warps /= 2;
    const size_t shared = Block::shared_bytes(plan, super_blocks);
    const auto kernel = linear_records_small_kernel<kType, kKind, kColumns, kOwn>;
    const cudaError_t allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (allowed != cudaSuccess) return allowed;
    const dim3 blocks((args.row_tiles + plan.tiles - 1) / plan.tiles);
    return launch_overlapping(kernel, blocks, plan.warps * 32, shared, stream, args, plan);
}

}  // namespace driftwood::compute::cuda
