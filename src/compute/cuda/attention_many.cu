// Rule 7 for one query token each of many rows: a block for each row and KV head walks the chunks in order, with two
// more parts of chunks under way than it works on, and merges them as it goes.
#include "compute/cuda/attention_split.cuh"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/layout.h"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kDecodeWarps = 4;
// Of a multiprocessor, as its registers and shared memory allow; with two rows a lane none is asked for.
template <uint32_t kHeadDim, uint32_t kRows>
constexpr uint32_t kBlocks = kRows == 2       ? 1
                             : kHeadDim == 64 ? 5
                                              : 3;

// A head that a warp turns and quantises: a query of the row, or the row's own key or value.
template <uint32_t kHeadDim>
__device__ HeadRow<kHeadDim / 64> turned_head(const Attention& args, uint32_t row, uint32_t head, HeadOf of) {
    const RopeStore& rope = args.rope;
    const Sequences& s = args.sequences;
    const float* x = of == HeadOf::kQuery ? rope.q : of == HeadOf::kKey ? rope.k : rope.v;
    const size_t at = static_cast<size_t>(row) * (of == HeadOf::kQuery ? s.heads : s.kv_heads) + head;
    const auto made = make_head_row<kHeadDim / 64>(rope, x + at * kHeadDim, of, s.position[row]);
    if (!made.finite && threadIdx.x % 32 == 0) {
        atomicMin(args.fault + row, of == HeadOf::kQuery ? rope.q_code
                                    : of == HeadOf::kKey ? rope.k_code
                                                         : rope.v_code);
    }
    return made;
}

// Of row g of the queries and, with two rows a lane, g + 8. A KV head of at most 8 queries needs the first alone.
template <uint32_t kRows>
struct Weighed {
    float m[kRows];
    int32_t l[kRows];
    int32_t exponent[kRows];  // of the weights' unit; INT32_MIN: all weights are zero
    bool in_range[kRows];
};

// The warp's 16 keys of a chunk of which `keys` are seen: scores, and the largest of each row among all warps' once the
// block has met.
template <uint32_t kRows, uint32_t kHeadDim>
__device__ void score_keys(const Queries<kHeadDim>& q, const Keys<kHeadDim>& chunk, uint32_t keys,
                           SplitExchange<kDecodeWarps>& exchange, float (&u)[2][4]) {
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
        tile_scores(q, chunk, warp * 2 + j, u[j]);
#pragma unroll
        for (uint32_t i = 0; i < 2 * kRows; ++i) {
            if ((warp * 2 + j) * 8 + lane % 4 * 2 + i % 2 < keys) most[i / 2] = fmaxf(most[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kRows; ++i) {
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 1));
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 2));
        if (lane % 4 == 0) exchange.scores[warp][lane / 4 + i * 8] = most[i];
    }
}

// After the block has met: weights into exchange.weight, which all may read when this returns.
template <uint32_t kRows, uint32_t kHeadDim>
__device__ Weighed<kRows> weigh_keys(const Values<kHeadDim>& chunk, uint32_t keys, const float (&cq)[2],
                                     SplitExchange<kDecodeWarps>& exchange, float (&u)[2][4]) {
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t g = threadIdx.x % 32 / 4;
    const uint32_t t = threadIdx.x % 4;
    Weighed<kRows> made;
    float c[kRows];
    float largest[kRows] = {};
    int32_t l[kRows] = {};
#pragma unroll
    for (uint32_t i = 0; i < kRows; ++i) {
        float most = -INFINITY;
        for (uint32_t w = 0; w < kDecodeWarps; ++w) most = fmaxf(most, exchange.scores[w][g + i * 8]);
        c[i] = __fmul_rn(most, cq[i]);
        made.m[i] = chunk_max(c[i]);
    }
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 2 * kRows; ++i) {
            const uint32_t key = (warp * 2 + j) * 8 + 2 * t + i % 2;
            const float x = __fmaf_rn(u[j][i], cq[i / 2], -made.m[i / 2]);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            u[j][i] = key < keys ? __fmul_rn(p, chunk.v_scale[key]) : 0.0F;
            l[i / 2] += key < keys ? round_int(__fmul_rn(p, kWeightScale)) : 0;
            largest[i / 2] = fmaxf(largest[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kRows; ++i) {
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 1));
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 2));
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 1);
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 2);
        if (t == 0) exchange.weights[warp][g + i * 8] = largest[i];
        if (t == 0) exchange.sums[warp][g + i * 8] = l[i];
    }
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < kRows; ++i) {
        made.l[i] = 0;
        for (uint32_t w = 0; w < kDecodeWarps; ++w) {
            largest[i] = fmaxf(largest[i], exchange.weights[w][g + i * 8]);
            made.l[i] += exchange.sums[w][g + i * 8];
        }
        const WeightUnit unit = weight_unit(largest[i]);
        for (uint32_t j = 0; j < 2; ++j) {
            for (uint32_t k = 0; k < 2; ++k) {
                const int32_t weight = round_int(__fmul_rn(u[j][i * 2 + k], unit.inv));
                exchange.weight[g + i * 8][(warp * 2 + j) * 8 + 2 * t + k] = static_cast<uint16_t>(weight);
            }
        }
        made.exponent[i] = unit.exponent;
        made.in_range[i] = in_range(c[i], largest[i]);
    }
    __syncthreads();
    return made;
}

template <uint32_t kRows>
__device__ WeightPlanes weight_planes(const SplitExchange<kDecodeWarps>& exchange) {
    WeightPlanes w;
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            if (word % 2 >= kRows) {
                w.low[step][word] = w.high[step][word] = 0;
                continue;
            }
            const uint32_t tile = step * 4 + word / 2 * 2;
            const uint32_t row = threadIdx.x % 32 / 4 + word % 2 * 8;
            const uint16_t* from = &exchange.weight[row][tile * 8 + threadIdx.x % 4 * 2];
            const uint32_t a = *reinterpret_cast<const uint32_t*>(from);
            const uint32_t b = *reinterpret_cast<const uint32_t*>(from + 8);
            w.low[step][word] = low_bytes(a, b);
            w.high[step][word] = high_bytes(a, b);
        }
    }
    return w;
}

// A chunk's keys or values. Three take turns as keys and values of one chunk after the other: the two that follow are
// on their way while one is worked on.
template <uint32_t kHeadDim>
union Part {
    Keys<kHeadDim> keys;
    Values<kHeadDim> values;
};
constexpr uint32_t kParts = 3;

// As load_chunk, of one part and of the first `count` keys or values; the caller commits and waits.
template <uint32_t kHeadDim>
__device__ void load_keys(Keys<kHeadDim>& keys, const uint8_t* head, uint32_t count) {
    for (uint32_t i = threadIdx.x; i < kHeadDim * 8; i += kDecodeWarps * 32) {
        const uint32_t row = i / 8;
        const uint32_t word = i % 8 * 4;
        if (row / (kHeadDim / 2) * 32 + word < count) cp_async_16(&keys.k[row][word], head + i * 16);
    }
    const uint8_t* scales = head + size_t{4} * kBlockTokens * kHeadDim;
    const uint32_t key = threadIdx.x * 4;
    if (key < min(count, kBlockTokens)) cp_async_16(keys.k_scale + key, scales + key * sizeof(float));
}
template <uint32_t kHeadDim>
__device__ void load_values(Values<kHeadDim>& values, const uint8_t* head, uint32_t count) {
    constexpr uint32_t kPerRow = kHeadDim / 4;
    const uint8_t* from = head + size_t{2} * kBlockTokens * kHeadDim;
    for (uint32_t i = threadIdx.x; i < kBlockTokens / 2 * kPerRow; i += kDecodeWarps * 32) {
        const uint32_t row = i / kPerRow;
        if (row * 2 < count) cp_async_16(&values.v[row][i % kPerRow * 4], from + i * 16);
    }
    const uint8_t* scales = head + size_t{4} * kBlockTokens * kHeadDim + kBlockTokens * sizeof(float);
    const uint32_t key = threadIdx.x * 4;
    if (key < min(count, kBlockTokens)) cp_async_16(values.v_scale + key, scales + key * sizeof(float));
}

// How far rows g and g + 8 have come.
template <uint32_t kHeadDim, uint32_t kRows>
struct Running {
    float max[2] = {kFirstMax, kFirstMax};
    float sum[kRows] = {};
    float out[kHeadDim / 32][2 * kRows] = {};  // as the tiles of a warp's quarter of the dimensions

    __device__ void merge(const Weighed<kRows>& weighed, const int32_t (&sums)[kHeadDim / 32][4]) {
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i) {
            const float most = fmaxf(max[i], weighed.m[i]);
            const float al = power_of_two(static_cast<int32_t>(__fsub_rn(max[i], most)));
            const auto be_exponent = static_cast<int32_t>(__fsub_rn(weighed.m[i], most));
            sum[i] = __fmaf_rn(static_cast<float>(weighed.l[i]), power_of_two(be_exponent), __fmul_rn(sum[i], al));
            max[i] = most;
            const float unit = unit_value(weighed.exponent[i], be_exponent);
#pragma unroll
            for (uint32_t j = 0; j < kHeadDim / 32; ++j) {
#pragma unroll
                for (uint32_t k = 2 * i; k < 2 * i + 2; ++k) {
                    out[j][k] = __fmaf_rn(static_cast<float>(sums[j][k]), unit, __fmul_rn(out[j][k], al));
                }
            }
        }
    }
};

// The outputs of the group, divided: as floats, or, by way of `staged`, as activations.
template <uint32_t kHeadDim, uint32_t kRows>
__device__ void give_out(const Attention& args, const Running<kHeadDim, kRows>& running, uint32_t row, uint32_t kv_head,
                         float (*staged)[kHeadDim]) {
    const Sequences& s = args.sequences;
    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const bool tiles = args.tiles.q != nullptr;
    float* out = args.out + (static_cast<size_t>(row) * s.heads + kv_head * group) * kHeadDim;
#pragma unroll
    for (uint32_t i = 0; i < kRows; ++i) {
        const uint32_t head = lane / 4 + i * 8;
        if (head >= group) continue;
        const float factor = __fdiv_rn(kWeightScale, running.sum[i]);
        float* to = tiles ? staged[head] : out + head * kHeadDim;
#pragma unroll
        for (uint32_t j = 0; j < kHeadDim / 32; ++j) {
            const float2 two = {__fmul_rn(running.out[j][2 * i], factor), __fmul_rn(running.out[j][2 * i + 1], factor)};
            *reinterpret_cast<float2*>(to + (warp * (kHeadDim / 32) + j) * 8 + lane % 4 * 2) = two;
        }
    }
    if (!tiles) return;
    __syncthreads();
    if (args.tiles_kind == ActivationKind::kA256) {  // the group's heads are a super-block
        if (warp > 0) return;
        float x[8];
        load_eight(staged[0], kSuperBlock, lane * 8, x);
        const uint32_t super_blocks = super_blocks_of(s.heads * kHeadDim);
        if (!store_super_block<ActivationKind::kA256>(args.tiles, row, kv_head, super_blocks, x)) {
            atomicMin(args.fault + row, args.code);
        }
        return;
    }
    constexpr uint32_t kGroups = kHeadDim / kGroup;
    for (uint32_t i = warp; i < group * kGroups; i += kDecodeWarps) {
        const uint32_t of_row = kv_head * group * kGroups + i;
        const float value = staged[i / kGroups][i % kGroups * kGroup + lane];
        if (!store_group(args.tiles, row, of_row, padded_groups(s.heads * kHeadDim), value)) {
            atomicMin(args.fault + row, args.code);
        }
    }
}

template <uint32_t kHeadDim>
struct Shared {
    Part<kHeadDim> part[kParts];
    SplitExchange<kDecodeWarps> exchange;
    alignas(16) Turned<kHeadDim> turned;
};

template <uint32_t kHeadDim, uint32_t kRows>
__global__ void __launch_bounds__(kDecodeWarps * 32, kBlocks<kHeadDim, kRows>) attention_many_kernel(Attention args) {
    extern __shared__ __align__(16) uint8_t memory[];
    auto& shared = *reinterpret_cast<Shared<kHeadDim>*>(memory);
    // With rope, all rows of the step are decodes: what a table says was written before the step began, and of the keys
    // and values only the row's own token is new, which this kernel puts there itself.
    if (!args.with_rope) wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t kv_head = blockIdx.x;
    const uint32_t row = args.decode_row[args.first_decode + blockIdx.y];
    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t visible = s.position[row] + 1;
    const uint32_t count = (visible + kBlockTokens - 1) / kBlockTokens;
    uint8_t* const* blocks = s.blocks + s.table[row];
    const size_t offset = (static_cast<size_t>(s.layer) * s.kv_heads + kv_head) * kHeadBytes<kHeadDim>;
    const uint8_t* now = blocks[0] + offset;
    const uint8_t* next = count > 1 ? blocks[1] + offset : nullptr;
    load_keys(shared.part[0].keys, now, visible);
    cp_async_commit();
    load_values(shared.part[1].values, now, visible);
    cp_async_commit();
    if (next != nullptr) load_keys(shared.part[2].keys, next, visible - kBlockTokens);
    cp_async_commit();
    const size_t first_head = static_cast<size_t>(row) * s.heads + kv_head * group;
    const int16_t* q16 = args.q16 + first_head * kHeadDim;
    const float* head_cq = args.cq + first_head;
    const uint32_t warp = threadIdx.x / 32;
    const HeadOf own_of = warp == 0 ? HeadOf::kKey : HeadOf::kValue;  // of the first two warps
    HeadRow<kHeadDim / 64> own{};
    if (args.with_rope) {
        wait_for_previous();
        if (warp < 2) own = turned_head<kHeadDim>(args, row, kv_head, own_of);
        for (uint32_t i = warp; i < group; i += kDecodeWarps) {
            const auto made = turned_head<kHeadDim>(args, row, kv_head * group + i, HeadOf::kQuery);
            keep_query(shared.turned, i, args.rope.pairs, made, args.rope.query_scale);
        }
        q16 = shared.turned.q[0];
        head_cq = shared.turned.cq;
        __syncthreads();
    }
    const uint32_t g = threadIdx.x % 32 / 4;
    const Queries<kHeadDim> q = load_queries<kHeadDim>(g < group ? q16 + g * kHeadDim : nullptr,
                                                       kRows > 1 && g + 8 < group ? q16 + (g + 8) * kHeadDim : nullptr);
    const float cq[2] = {g < group ? head_cq[g] : 0.0F, g + 8 < group ? head_cq[g + 8] : 0.0F};

    Running<kHeadDim, kRows> running;
    for (uint32_t index = 0; index < count; ++index) {
        Keys<kHeadDim>& keys = shared.part[2 * index % kParts].keys;
        Values<kHeadDim>& values = shared.part[(2 * index + 1) % kParts].values;
        const uint32_t seen = visible - index * kBlockTokens;
        const uint8_t* after = index + 2 < count ? blocks[index + 2] + offset : nullptr;
        if (index + 1 == count && args.with_rope) {
            cp_async_wait<0>();
            __syncthreads();
            const uint32_t token = (visible - 1) % kBlockTokens;
            if (warp < 2) keep_own(keys, values, blocks[index] + offset, args.rope.pairs, own, own_of, token);
        }
        cp_async_wait<2>();
        __syncthreads();
        float u[2][4];
        score_keys<kRows>(q, keys, seen, shared.exchange, u);
        cp_async_wait<1>();
        __syncthreads();
        if (next != nullptr) {
            load_values(shared.part[2 * index % kParts].values, next, seen - kBlockTokens);
        }
        cp_async_commit();
        const Weighed<kRows> weighed = weigh_keys<kRows>(values, seen, cq, shared.exchange, u);
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i) {
            const bool mine = threadIdx.x < 32 && threadIdx.x % 4 == 0 && g + i * 8 < group;
            if (mine && !weighed.in_range[i]) atomicMin(args.fault + row, args.code);
        }
        const WeightPlanes w = weight_planes<kRows>(shared.exchange);
        int32_t sums[kHeadDim / 32][4];
#pragma unroll
        for (uint32_t j = 0; j < kHeadDim / 32; ++j) {
            tile_values(w, values, warp * (kHeadDim / 32) + j, sums[j]);
        }
        __syncthreads();
        if (after != nullptr) {
            load_keys(shared.part[(2 * index + 1) % kParts].keys, after, seen - 2 * kBlockTokens);
        }
        cp_async_commit();
        next = after;
        running.merge(weighed, sums);
    }
    // The chunks are done with: a part's memory serves the outputs.
    static_assert(sizeof(Part<kHeadDim>) >= kSplitQueries * kHeadDim * sizeof(float));
    give_out(args, running, row, kv_head, reinterpret_cast<float(*)[kHeadDim]>(&shared.part[0]));
}

template <uint32_t kHeadDim, uint32_t kRows>
cudaError_t launch(cudaStream_t stream, const Attention& args) {
    constexpr size_t kShared = sizeof(Shared<kHeadDim>);
    const auto kernel = attention_many_kernel<kHeadDim, kRows>;
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    const dim3 grid(args.sequences.kv_heads, args.decode_rows);
    return launch_overlapping(kernel, grid, kDecodeWarps * 32, kShared, stream, args);
}

}  // namespace

cudaError_t attention_many(cudaStream_t stream, const Attention& args) {
    const Sequences& s = args.sequences;
    const bool one_row = s.heads / s.kv_heads <= 8;
    if (s.head_dim == 64) return one_row ? launch<64, 1>(stream, args) : launch<64, 2>(stream, args);
    return one_row ? launch<128, 1>(stream, args) : launch<128, 2>(stream, args);
}

}  // namespace driftwood::compute::cuda
