// Rule 3 on the card for many tokens, by warpgroups (wgmma): products run beside the float chains of those before,
// which is what bounds this kernel: a conversion and an fma for every 32 products (Q8_0: and a scaling).
//
// A warpgroup has 64 rows by two pieces of columns (tokens) of a super-block: while it adds up one piece of a group,
// the other piece's product is under way. A block has one or two of them beside each other along the rows, and goes
// from tile to tile of the output; what it reads waits in a ring of super-blocks in shared memory. Where there are too
// few tiles for all multiprocessors, warpgroups take super-blocks by turns: sums of super-blocks do not depend on each
// other, and the row's sums go from warpgroup to warpgroup in the contract's order.
#include <algorithm>

#include "compute/constants.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/wgmma.cuh"

namespace driftwood::compute::cuda {

namespace {

// kAcross warpgroups along the rows; kTurns of them take super-blocks by turns; kColumns: of a piece.
template <WeightType type, uint32_t across, uint32_t turns, uint32_t columns>
struct Plan {
    static constexpr WeightType kType = type;
    static constexpr uint32_t kAcross = across;
    static constexpr uint32_t kTurns = turns;
    static constexpr uint32_t kColumns = columns;
    static constexpr uint32_t kTokens = 2 * kColumns;
    static constexpr uint32_t kRows = across * 64;
    static constexpr uint32_t kRowTiles = kRows / kTileRows;
    static constexpr uint32_t kTokenTiles = kTokens / kTileRows;
    static constexpr uint32_t kMultiply = across * turns * 128;  // threads
    // And a warpgroup that fetches, and hands its registers to the others.
    static constexpr uint32_t kThreads = kMultiply + 128;
    static constexpr bool kScaled = kind_of(type) == ActivationKind::kA32P;  // group by group
    static constexpr uint32_t kScales = kScaled ? 8 : 1;                     // of a token and super-block
    static constexpr uint32_t kSums = kColumns / 2;                          // of a lane and piece
};

template <class P>
struct Stage {
    uint8_t activations[P::kTokenTiles][8 * kTileBytes];
    uint8_t weights[P::kRowTiles][8 / kGroupsPerLoad<P::kType>][kTileBytes];
    uint16_t weight_scale[P::kRowTiles][kScaleRow];
    float activation_scale[P::kTokenTiles][P::kScales][kTileRows];
};

constexpr uint32_t kMostStages = 8;

template <class P>
struct Shared {
    CopyBarrier full[kMostStages];
    CopyBarrier empty[kMostStages];
    CopyBarrier turn[P::kTurns][P::kAcross * 4];  // of each warp
    // Where a row's sums are between turns: each lane's own.
    alignas(128) float4 sums[P::kTurns == 1 ? 1 : P::kAcross * P::kSums / 2][128];
    alignas(128) Stage<P> stage[];
};

template <class P>
constexpr uint32_t kStages = std::min<size_t>(kMostStages, ((227U << 10) - sizeof(Shared<P>)) / sizeof(Stage<P>));
template <class P>
constexpr size_t kSharedBytes = sizeof(Shared<P>) + kStages<P> * sizeof(Stage<P>);

#if defined(DW_WARPGROUPS)

// A tile of the output: rows of one product by tokens.
struct Tile {
    uint32_t product;
    uint32_t row_tile;
    uint32_t token_tile;
};
template <class P>
__device__ Tile tile_of(const Linear& args, uint32_t number) {
    const uint32_t columns = (args.tokens + P::kTokens - 1) / P::kTokens;
    uint32_t row = number / columns;
    uint32_t product = 0;
    for (; product + 1 < args.products; ++product) {
        const uint32_t rows = (args.product[product].matrix.rows + P::kRows - 1) / P::kRows;
        if (row < rows) break;
        row -= rows;
    }
    return {product, row * P::kRowTiles, number % columns * P::kTokenTiles};
}

// Steps of a block are the super-blocks of tile blockIdx.x, of tile blockIdx.x + gridDim.x, …
struct Cursor {
    uint32_t step;
    uint32_t sb;
    uint32_t number;  // of the tile

    // Some steps further; whether the tile is another one now.
    __device__ bool advance(uint32_t steps, uint32_t super_blocks) {
        const uint32_t before = number;
        step += steps;
        sb += steps;
        for (; sb >= super_blocks; sb -= super_blocks) number += gridDim.x;
        return number != before;
    }
};

// Has the lanes of one warp fetch a super-block, a piece each.
template <class P>
__device__ void load_stage(Stage<P>& stage, CopyBarrier& full, const Linear& args, const Tile& tile, uint32_t sb) {
    static_assert(2 * (P::kRowTiles + P::kTokenTiles) <= 32);
    constexpr uint32_t kWeights = 8 * tile_bytes(P::kType);
    constexpr uint32_t kActivationScales = P::kScales * kTileRows;
    const TiledMatrix& matrix = args.product[tile.product].matrix;
    const size_t super_blocks = super_blocks_of(matrix.cols);
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t i = lane / 2;
    if (lane == 0) expect_bytes(full, sizeof(stage));
    __syncwarp();
    // Beyond the last tile the last one is read again; nothing of it is written.
    if (i < P::kRowTiles) {
        const size_t at = min(tile.row_tile + i, tiles_of(matrix.rows) - 1) * super_blocks + sb;
        if (lane % 2 == 0) {
            copy_bulk(stage.weights[i], matrix.tiles + at * kWeights, kWeights, full);
        } else {
            copy_bulk(stage.weight_scale[i], matrix.scales + at * kScaleRow, kScaleRow * sizeof(uint16_t), full);
        }
    } else if (i < P::kRowTiles + P::kTokenTiles) {
        const uint32_t t = i - P::kRowTiles;
        const size_t at = min(tile.token_tile + t, tiles_of(args.tokens) - 1) * super_blocks + sb;
        if (lane % 2 == 0) {
            copy_bulk(stage.activations[t], args.x.q + at * 8 * kTileBytes, 8 * kTileBytes, full);
        } else {
            copy_bulk(stage.activation_scale[t], args.x.scale + at * kActivationScales,
                      kActivationScales * sizeof(float), full);
        }
    }
    __syncwarp();
}

// Half j of 8 halves that lie in 4 words, as a scale.
template <WeightType kType>
__device__ float scale_of(const uint4& halves, uint32_t j) {
    const uint32_t word = j / 2 == 0 ? halves.x : j / 2 == 1 ? halves.y : j / 2 == 2 ? halves.z : halves.w;
    return weight_scale<kType>(static_cast<uint16_t>(j % 2 == 0 ? word & 0xFFFFU : word >> 16));
}

// Scales of group j of the tokens 8 n + 2 t and the next of a piece.
template <class P>
__device__ float2 token_scales(const Stage<P>& stage, uint32_t j, uint32_t piece, uint32_t n) {
    const uint32_t eight = piece * (P::kColumns / 8) + n;
    const float* scale = stage.activation_scale[eight / 2][j] + eight % 2 * 8 + threadIdx.x % 4 * 2;
    return *reinterpret_cast<const float2*>(scale);
}

// The sums of one super-block, of the 16 rows of row tile `warp` for each warp of the warpgroup.
template <class P>
__device__ void multiply_stage(const Stage<P>& stage, uint32_t warp, float (&sum)[2][P::kSums]) {
    constexpr uint32_t kEach = kGroupsPerLoad<P::kType>;
    const uint32_t lane = threadIdx.x % 32;
    const uint64_t cores = cores_at(stage.activations, 8 * 16, 8 * 8 * kTileCols);
    const uint8_t* weights = stage.weights[warp][0] + lane * 16;
    const uint4 d0 = *reinterpret_cast<const uint4*>(stage.weight_scale[warp] + lane / 4 * 8);
    const uint4 d8 = *reinterpret_cast<const uint4*>(stage.weight_scale[warp] + (lane / 4 + 8) * 8);

    int32_t products[2][P::kSums] = {};
    uint4 w = *reinterpret_cast<const uint4*>(weights);
    uint32_t a[2][4];  // of this group and the next
    operand<P::kType>(w, 0, a[0]);
    const auto begin = [&](uint32_t step) {
        const uint32_t j = step / 2;
        products_begin();
        product_s8s8<Sum::kNew>(products[step % 2], a[j % 2],
                                cores_after(cores, j * 8 * kTileCols + step % 2 * P::kColumns * 8 * kTileCols));
        products_commit();
    };
    begin(0);
#pragma unroll
    for (uint32_t step = 0; step < 16; ++step) {
        const uint32_t j = step / 2;
        const uint32_t piece = step % 2;
        if (piece == 1 && j < 7) {
            if ((j + 1) % kEach == 0) w = *reinterpret_cast<const uint4*>(weights + (j + 1) / kEach * kTileBytes);
            operand<P::kType>(w, (j + 1) % kEach, a[(j + 1) % 2]);
        }
        if (step < 15) {
            begin(step + 1);
            products_wait<1>();
        } else {
            products_wait<0>();
        }
        products_seen(products[piece]);
        const float d[2] = {scale_of<P::kType>(d0, j), scale_of<P::kType>(d8, j)};
#pragma unroll
        for (uint32_t n = 0; n < P::kColumns / 8; ++n) {
            const float2 s = P::kScaled ? token_scales<P>(stage, j, piece, n) : float2{};
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) {
                auto f = static_cast<float>(products[piece][n * 4 + k]);
                if constexpr (P::kScaled) f = __fmul_rn(f, k % 2 == 0 ? s.x : s.y);
                float& to = sum[piece][n * 4 + k];
                to = __fmaf_rn(d[k / 2], f, j == 0 ? 0.0F : to);
            }
        }
    }
}

// A super-block's sums join the row's.
template <class P>
__device__ void join(const Stage<P>& stage, const float (&sum)[2][P::kSums], float (&acc)[2][P::kSums]) {
#pragma unroll
    for (uint32_t piece = 0; piece < 2; ++piece) {
#pragma unroll
        for (uint32_t n = 0; n < P::kColumns / 8; ++n) {
            const float2 s = P::kScaled ? float2{} : token_scales<P>(stage, 0, piece, n);
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) {
                float& to = acc[piece][n * 4 + k];
                const float by = sum[piece][n * 4 + k];
                to = P::kScaled ? __fadd_rn(to, by) : __fmaf_rn(by, k % 2 == 0 ? s.x : s.y, to);
            }
        }
    }
}

// Of a tile that lies within the outputs; y is the lane's first. Four times 8 tokens at a time: what is there is read
// before anything is written.
template <class P, bool kAdd>
__device__ void store_whole(float* y, size_t rows, const float (&acc)[2][P::kSums]) {
#pragma unroll
    for (uint32_t first = 0; first < P::kTokens / 8; first += 4) {
        float before[4][4] = {};
        const float* at = y;
#pragma unroll
        for (uint32_t i = 0; i < 4 && kAdd; ++i, at += 8 * rows) {
            before[i][0] = at[0];
            before[i][1] = at[rows];
            before[i][2] = at[8];
            before[i][3] = at[rows + 8];
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i, y += 8 * rows) {
            const uint32_t eight = first + i;
            const float* from = acc[eight / (P::kColumns / 8)] + eight % (P::kColumns / 8) * 4;
            y[0] = kAdd ? __fadd_rn(before[i][0], from[0]) : from[0];
            y[rows] = kAdd ? __fadd_rn(before[i][1], from[1]) : from[1];
            y[8] = kAdd ? __fadd_rn(before[i][2], from[2]) : from[2];
            y[rows + 8] = kAdd ? __fadd_rn(before[i][3], from[3]) : from[3];
        }
    }
}

template <class P>
__device__ void store_outputs(const Linear& args, const Tile& tile, uint32_t warp, const float (&acc)[2][P::kSums]) {
    const Linear::Product& product = args.product[tile.product];
    const uint32_t rows = product.matrix.rows;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t first_row = (tile.row_tile + warp) * kTileRows + lane / 4;
    const uint32_t first_token = tile.token_tile * kTileRows + lane % 4 * 2;
    const bool whole =
        (tile.row_tile + P::kRowTiles) * kTileRows <= rows && tile.token_tile * kTileRows + P::kTokens <= args.tokens;
    if (whole && args.fault == nullptr) {
        float* y = product.y + static_cast<size_t>(first_token) * rows + first_row;
        if (args.add) {
            store_whole<P, true>(y, rows, acc);
        } else {
            store_whole<P, false>(y, rows, acc);
        }
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 2 * P::kSums; ++i) {
        put(args, product, first_row + i / 2 % 2 * 8, first_token + i / 4 * 8 + i % 2, acc[i / P::kSums][i % P::kSums]);
    }
}

template <uint32_t kSums>
__device__ void clear(float (&acc)[2][kSums]) {
#pragma unroll
    for (uint32_t i = 0; i < kSums; ++i) acc[0][i] = acc[1][i] = 0.0F;
}

// The row's sums from where the turn before left them, or for the next one.
template <class P>
__device__ void take_sums(const Shared<P>& shared, uint32_t across, float (&acc)[2][P::kSums]) {
#pragma unroll
    for (uint32_t i = 0; i < P::kSums / 2; ++i) {
        const float4 four = shared.sums[across * (P::kSums / 2) + i][threadIdx.x % 128];
        float* to = acc[i / (P::kSums / 4)] + i % (P::kSums / 4) * 4;
        to[0] = four.x;
        to[1] = four.y;
        to[2] = four.z;
        to[3] = four.w;
    }
}
template <class P>
__device__ void leave_sums(Shared<P>& shared, uint32_t across, const float (&acc)[2][P::kSums]) {
#pragma unroll
    for (uint32_t i = 0; i < P::kSums / 2; ++i) {
        const float* from = acc[i / (P::kSums / 4)] + i % (P::kSums / 4) * 4;
        shared.sums[across * (P::kSums / 2) + i][threadIdx.x % 128] = {from[0], from[1], from[2], from[3]};
    }
}

template <class P>
__device__ void make_barriers(Shared<P>& shared) {
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < kStages<P>; ++i) {
            make_barrier(shared.full[i]);
            make_barrier(shared.empty[i], P::kAcross * 4);
        }
        for (auto& warps : shared.turn) {
            for (CopyBarrier& warp : warps) make_barrier(warp, 1);
        }
    }
    __syncthreads();
}

#endif

#if defined(DW_WARPGROUPS)

constexpr uint32_t kFetchWarps = 4;

// The work of the warps that fetch, several, as a copy takes its warp longer than the products wait for it. Each has
// places of its own in the ring: a barrier's parity tells a step from the one before in its place, not from the next.
template <class P>
__device__ void fetch(Shared<P>& shared, const Linear& args, uint32_t steps, uint32_t super_blocks) {
    constexpr uint32_t kRing = kStages<P>;
    const uint32_t mine = (threadIdx.x - P::kMultiply) / 32;
    Tile tile = tile_of<P>(args, blockIdx.x);
    for (Cursor ahead{0, 0, blockIdx.x}; ahead.step < steps;) {
        const uint32_t place = ahead.step % kRing;
        if (place % kFetchWarps == mine) {
            if (ahead.step >= kRing) wait_for_bytes(shared.empty[place], (ahead.step / kRing - 1) % 2);
            __syncwarp();
            load_stage(shared.stage[place], shared.full[place], args, tile, ahead.sb);
        }
        if (ahead.advance(1, super_blocks)) tile = tile_of<P>(args, ahead.number);
    }
}

template <class P>
__device__ void multiply(Shared<P>& shared, const Linear& args, uint32_t steps, uint32_t super_blocks) {
    constexpr uint32_t kRing = kStages<P>;
    const uint32_t warp = threadIdx.x / 32 % (P::kAcross * 4);
    const uint32_t across = warp / 4;
    const uint32_t turn = threadIdx.x / (P::kAcross * 128);
    const uint32_t lane = threadIdx.x % 32;
    Cursor now{0, 0, blockIdx.x};
    now.advance(turn, super_blocks);
    float acc[2][P::kSums];
    for (; now.step < steps; now.advance(P::kTurns, super_blocks)) {
        const uint32_t place = now.step % kRing;
        wait_for_bytes(shared.full[place], now.step / kRing % 2);
        __syncwarp();
        const Stage<P>& stage = shared.stage[place];
        if (P::kTurns == 1 && now.sb == 0) clear(acc);
        float sum[2][P::kSums];
        multiply_stage(stage, warp, sum);
        const bool last = now.sb + 1 == super_blocks;
        if constexpr (P::kTurns > 1) {
            const uint32_t since = turn == 0 ? now.step - P::kTurns : now.step;
            if (now.step > 0) wait_for_bytes(shared.turn[turn][warp], since / P::kTurns % 2);
            __syncwarp();
            if (now.sb == 0) {
                clear(acc);
            } else {
                take_sums(shared, across, acc);
            }
        }
        join(stage, sum, acc);
        if constexpr (P::kTurns > 1) {
            if (!last) leave_sums(shared, across, acc);
        }
        __syncwarp();
        if (lane == 0) {
            arrive(shared.empty[place]);
            if constexpr (P::kTurns > 1) arrive(shared.turn[(turn + 1) % P::kTurns][warp]);
        }
        if (last) store_outputs<P>(args, tile_of<P>(args, now.number), warp, acc);
    }
}

#endif

template <class P>
__global__ void __launch_bounds__(P::kThreads, 1)
    linear_wide_kernel([[maybe_unused]] Linear args, [[maybe_unused]] uint32_t tiles) {
#if defined(DW_WARPGROUPS)
    extern __shared__ __align__(128) uint8_t memory[];
    auto& shared = *reinterpret_cast<Shared<P>*>(memory);
    make_barriers(shared);
    wait_for_previous();
    const uint32_t super_blocks = super_blocks_of(args.product[0].matrix.cols);
    const uint32_t steps = (tiles - blockIdx.x + gridDim.x - 1) / gridDim.x * super_blocks;
    if (threadIdx.x >= P::kMultiply) {
        leave_registers<24>();
        fetch(shared, args, steps, super_blocks);
    } else {
        take_registers<P::kTurns == 1 ? 240 : 112>();
        multiply(shared, args, steps, super_blocks);
    }
#endif
}

uint32_t multiprocessors() {
    static const uint32_t kCount = card_has(cudaDevAttrMultiProcessorCount);
    return kCount;
}

template <class P>
uint32_t tiles_by(const Linear& args) {
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < args.products; ++i) tiles += (args.product[i].matrix.rows + P::kRows - 1) / P::kRows;
    return tiles * ((args.tokens + P::kTokens - 1) / P::kTokens);
}

template <class P>
cudaError_t launch(cudaStream_t stream, const Linear& args) {
    const auto kernel = linear_wide_kernel<P>;
    const cudaError_t allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kSharedBytes<P>});
    if (allowed != cudaSuccess) return allowed;
    const uint32_t tiles = tiles_by<P>(args);
    const dim3 blocks(std::min(tiles, multiprocessors()));
    return launch_overlapping(kernel, blocks, P::kThreads, kSharedBytes<P>, stream, args, tiles);
}

template <WeightType kType>
cudaError_t launch_type(cudaStream_t stream, const Linear& args) {
    using Wide = Plan<kType, 2, 1, 64>;
    using Two = Plan<kType, 2, 2, 32>;
    using Four = Plan<kType, 1, 4, 32>;
    using Few = Plan<kType, 1, 4, 16>;
    // Tiles as large as still give almost every multiprocessor one.
    const uint32_t enough = multiprocessors() * 9 / 10;
    if (args.tokens > Two::kTokens && tiles_by<Wide>(args) >= enough) return launch<Wide>(stream, args);
    if (tiles_by<Two>(args) >= enough) return launch<Two>(stream, args);
    if (2 * tiles_by<Four>(args) > multiprocessors()) return launch<Four>(stream, args);
    return launch<Few>(stream, args);
}

}  // namespace

bool has_warpgroups() {
    static const bool kHas = [] {
        int device = 0;
        int major = 0;
        return cudaGetDevice(&device) == cudaSuccess &&
               cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
    }();
    return kHas;
}

cudaError_t linear_wide(cudaStream_t stream, const Linear& args) {
    return args.product[0].matrix.type == WeightType::kQ8_0 ? launch_type<WeightType::kQ8_0>(stream, args)
                                                            : launch_type<WeightType::kQ4_0>(stream, args);
}

}  // namespace driftwood::compute::cuda
