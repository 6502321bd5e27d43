// Rule 7 for one query token: chunks side by side, a block for each chunk and KV head, then one merge in the contract's
// order. The first kernel leaves, for every head and chunk, m, l, the weights' unit and the integer sums; the second
// finds the running maxima of all chunks at once, so that the chain over chunks is one fma and one product a step.
#include "compute/cuda/attention.cuh"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/layout.h"
#include "compute/cuda/quantise.cuh"
#include "compute/cuda/rope.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kQueries = 16;
constexpr uint32_t kMergeLoads = 32;     // chunks whose sums are on their way together
constexpr uint32_t kMergeChunks = 1024;  // whose factors fit into shared memory at once

struct Part {
    float m;
    int32_t l;
    int32_t exponent;  // of the weights' unit; INT32_MIN: all weights are zero
};

static_assert(sizeof(Part) == kAttentionPartBytes);

struct Exchange {
    float scores[kWarps][kQueries];
    float weights[kWarps][kQueries];
    int32_t sums[kWarps][kQueries];
    uint16_t weight[kQueries][kBlockTokens + 8];
};

template <uint32_t kHeadDim>
struct Turned {
    int16_t q[kQueries][kHeadDim];
    float cq[kQueries];
};

// The queries of a KV head's group, turned and quantised by the block itself, and of the chunk that the row's own token
// is in, its key and value: into the cache, and into the chunk that is in shared memory already.
template <uint32_t kHeadDim>
__device__ void rope_in_block(const Attention& args, Turned<kHeadDim>& turned, Chunk<kHeadDim>& chunk, uint8_t* block,
                              uint32_t row, uint32_t kv_head, bool own_chunk) {
    constexpr uint32_t kPairs = kHeadDim / 64;
    const RopeStore& rope = args.rope;
    const Sequences& s = args.sequences;
    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t position = s.position[row];
    for (uint32_t i = threadIdx.x / 32; i < group + (own_chunk ? 2 : 0); i += kWarps) {
        const HeadOf of = i < group ? HeadOf::kQuery : i == group ? HeadOf::kKey : HeadOf::kValue;
        const float* x = of == HeadOf::kQuery ? rope.q : of == HeadOf::kKey ? rope.k : rope.v;
        const size_t at = of == HeadOf::kQuery ? static_cast<size_t>(row) * s.heads + kv_head * group + i
                                               : static_cast<size_t>(row) * s.kv_heads + kv_head;
        const auto made = make_head_row<kPairs>(rope, x + at * kHeadDim, of, position);
        if (of == HeadOf::kQuery) {
            for (uint32_t p = 0; p < kPairs; ++p) {
                for (uint32_t j = 0; j < 2; ++j) {
                    turned.q[i][pair_dim(rope.pairs, kHeadDim / 2, p * 32 + lane, j)] = made.n[p][j];
                }
            }
            if (lane == 0) turned.cq[i] = __fmul_rn(made.scale, rope.query_scale);
        } else {
            const uint32_t token = position % kBlockTokens;
            store_head_row(rope, made, of, block, token);
            for (uint32_t p = 0; p < kPairs; ++p) {
                for (uint32_t j = 0; j < 2; ++j) {
                    const uint32_t d = pair_dim(rope.pairs, kHeadDim / 2, p * 32 + lane, j);
                    auto* word = of == HeadOf::kKey ? &chunk.k[token / 32 * (kHeadDim / 2) + d / 2][token % 32]
                                                    : &chunk.v[token / 2][d];
                    reinterpret_cast<int16_t*>(word)[of == HeadOf::kKey ? d % 2 : token % 2] = made.n[p][j];
                }
            }
            if (lane == 0) (of == HeadOf::kKey ? chunk.k_scale : chunk.v_scale)[token] = made.scale;
        }
        if (!made.finite && lane == 0) {
            atomicMin(args.fault + row, of == HeadOf::kQuery ? rope.q_code
                                        : of == HeadOf::kKey ? rope.k_code
                                                             : rope.v_code);
        }
    }
}

template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kWarps * 32) attention_split_kernel(Attention args) {
    extern __shared__ __align__(16) uint8_t shared[];
    auto& chunk = *reinterpret_cast<Chunk<kHeadDim>*>(shared);
    __shared__ Exchange exchange;
    __shared__ __align__(16) Turned<kHeadDim> turned;
    // With rope, all rows of the step are decodes: what a table says was written before the step began, and of the keys
    // and values only the row's own token is new, which this kernel puts there itself.
    if (!args.with_rope) wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t row = args.decode_row[args.first_decode + blockIdx.z];
    const uint32_t index = blockIdx.x;
    const uint32_t kv_head = blockIdx.y;
    const uint32_t visible = s.position[row] + 1;
    const bool empty = index * kBlockTokens >= visible;
    uint8_t* block = nullptr;
    if (!empty) {
        block = s.blocks[s.table[row] + index] +
                (static_cast<size_t>(s.layer) * s.kv_heads + kv_head) * kHeadBytes<kHeadDim>;
        load_chunk(chunk, block);
    }
    cp_async_commit();
    if (args.with_rope) wait_for_previous();
    if (empty) return;

    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    const size_t first_head = static_cast<size_t>(row) * s.heads + kv_head * group;
    const int16_t* q16 = args.q16 + first_head * kHeadDim;
    const float* head_cq = args.cq + first_head;
    if (args.with_rope) {
        const bool own_chunk = index == (visible - 1) / kBlockTokens;
        if (own_chunk) {
            cp_async_wait<0>();
            __syncthreads();
        }
        rope_in_block(args, turned, chunk, block, row, kv_head, own_chunk);
        q16 = turned.q[0];
        head_cq = turned.cq;
        __syncthreads();
    }
    const Queries<kHeadDim> q = load_queries<kHeadDim>(g < group ? q16 + g * kHeadDim : nullptr,
                                                       g + 8 < group ? q16 + (g + 8) * kHeadDim : nullptr);
    const float cq[2] = {g < group ? head_cq[g] : 0.0F, g + 8 < group ? head_cq[g + 8] : 0.0F};
    cp_async_wait<0>();
    __syncthreads();

    // Scores: each warp has 16 keys.
    const uint32_t keys = visible - index * kBlockTokens;
    float u[2][4];
    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
        tile_scores(q, chunk, warp * 2 + j, u[j]);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            if ((warp * 2 + j) * 8 + 2 * t + i % 2 < keys) most[i / 2] = fmaxf(most[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 1));
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 2));
        if (t == 0) exchange.scores[warp][g + i * 8] = most[i];
    }
    __syncthreads();
    float c[2], m[2];
    float largest[2] = {0.0F, 0.0F};
    int32_t l[2] = {0, 0};
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        for (uint32_t w = 0; w < kWarps; ++w) most[i] = fmaxf(most[i], exchange.scores[w][g + i * 8]);
        c[i] = __fmul_rn(most[i], cq[i]);
        m[i] = chunk_max(c[i]);
    }
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t key = (warp * 2 + j) * 8 + 2 * t + i % 2;
            const float x = __fmaf_rn(u[j][i], cq[i / 2], -m[i / 2]);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            u[j][i] = key < keys ? __fmul_rn(p, chunk.v_scale[key]) : 0.0F;
            l[i / 2] += key < keys ? round_int(__fmul_rn(p, kWeightScale)) : 0;
            largest[i / 2] = fmaxf(largest[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 1));
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 2));
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 1);
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 2);
        if (t == 0) exchange.weights[warp][g + i * 8] = largest[i];
        if (t == 0) exchange.sums[warp][g + i * 8] = l[i];
    }
    __syncthreads();
    const size_t first_part = (static_cast<size_t>(blockIdx.z) * s.heads + kv_head * group) * args.max_chunks + index;
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        l[i] = 0;
        for (uint32_t w = 0; w < kWarps; ++w) {
            largest[i] = fmaxf(largest[i], exchange.weights[w][g + i * 8]);
            l[i] += exchange.sums[w][g + i * 8];
        }
        const WeightUnit unit = weight_unit(largest[i]);
        for (uint32_t j = 0; j < 2; ++j) {
            for (uint32_t k = 0; k < 2; ++k) {
                const int32_t weight = round_int(__fmul_rn(u[j][i * 2 + k], unit.inv));
                exchange.weight[g + i * 8][(warp * 2 + j) * 8 + 2 * t + k] = static_cast<uint16_t>(weight);
            }
        }
        const uint32_t head = g + i * 8;
        if (warp != 0 || t != 0 || head >= group) continue;
        static_cast<Part*>(args.part)[first_part + static_cast<size_t>(head) * args.max_chunks] = {m[i], l[i],
                                                                                                   unit.exponent};
        if (!in_range(c[i], largest[i])) atomicMin(args.fault + row, args.code);
    }
    __syncthreads();

    // Values: each warp has a quarter of the dimensions.
    WeightPlanes w;
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            const uint32_t tile = step * 4 + word / 2 * 2;
            const uint16_t* from = &exchange.weight[g + word % 2 * 8][tile * 8 + 2 * t];
            const uint32_t a = *reinterpret_cast<const uint32_t*>(from);
            const uint32_t b = *reinterpret_cast<const uint32_t*>(from + 8);
            w.low[step][word] = low_bytes(a, b);
            w.high[step][word] = high_bytes(a, b);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < kHeadDim / 32; ++j) {
        const uint32_t tile = warp * (kHeadDim / 32) + j;
        int32_t sum[4];
        tile_values(w, chunk, tile, sum);
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t head = g + i * 8;
            if (head >= group) continue;
            int32_t* to = args.part_sum + (first_part + static_cast<size_t>(head) * args.max_chunks) * kHeadDim;
            *reinterpret_cast<int2*>(to + tile * 8 + 2 * t) = {sum[2 * i], sum[2 * i + 1]};
        }
    }
}

struct Factors {
    float al;
    float unit;
    float l;  // as a float
    float be;
};

// A thread per dimension of one head of one row.
template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kHeadDim) attention_merge_kernel(Attention args) {
    __shared__ Factors factors[kMergeChunks];
    wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t row = args.decode_row[args.first_decode + blockIdx.y];
    const uint32_t head = blockIdx.x;
    const uint32_t chunks = s.position[row] / kBlockTokens + 1;
    const size_t first = (static_cast<size_t>(blockIdx.y) * s.heads + head) * args.max_chunks;
    const Part* parts = static_cast<const Part*>(args.part) + first;
    const int32_t* sums = args.part_sum + first * kHeadDim + threadIdx.x;

    float running_max = kFirstMax;
    float sum = 0.0F;
    float out = 0.0F;
    for (uint32_t begin = 0; begin < chunks; begin += kMergeChunks) {
        const uint32_t count = min(kMergeChunks, chunks - begin);
        if (threadIdx.x < 32) {
            for (uint32_t i = threadIdx.x; i - threadIdx.x < count; i += 32) {
                Part part = {kFirstMax, 0, INT32_MIN};
                if (i < count) part = parts[begin + i];
                float most = part.m;  // the maximum up to and with this chunk
                for (uint32_t step = 1; step < 32; step *= 2) {
                    const float other = __shfl_up_sync(kAllLanes, most, step);
                    if (threadIdx.x >= step) most = fmaxf(most, other);
                }
                most = fmaxf(most, running_max);
                float before = __shfl_up_sync(kAllLanes, most, 1);
                if (threadIdx.x == 0) before = running_max;
                running_max = __shfl_sync(kAllLanes, most, 31);
                const auto be_exponent = static_cast<int32_t>(__fsub_rn(part.m, most));
                if (i < count) {
                    factors[i] = {power_of_two(static_cast<int32_t>(__fsub_rn(before, most))),
                                  unit_value(part.exponent, be_exponent), static_cast<float>(part.l),
                                  power_of_two(be_exponent)};
                }
            }
        }
        __syncthreads();
        for (uint32_t i = 0; i < count; i += kMergeLoads) {
            int32_t total[kMergeLoads];
#pragma unroll
            for (uint32_t j = 0; j < kMergeLoads; ++j) {
                total[j] = i + j < count ? sums[static_cast<size_t>(begin + i + j) * kHeadDim] : 0;
            }
#pragma unroll
            for (uint32_t j = 0; j < kMergeLoads; ++j) {
                if (i + j >= count) break;
                const Factors f = factors[i + j];
                sum = __fmaf_rn(f.l, f.be, __fmul_rn(sum, f.al));
                out = __fmaf_rn(static_cast<float>(total[j]), f.unit, __fmul_rn(out, f.al));
            }
        }
        __syncthreads();
    }
    const float value = __fmul_rn(out, __fdiv_rn(kWeightScale, sum));
    if (args.tiles.q == nullptr) {
        args.out[(static_cast<size_t>(row) * s.heads + head) * kHeadDim + threadIdx.x] = value;
        return;
    }
    const uint32_t col = head * kHeadDim + threadIdx.x;
    const bool finite = store_group(args.tiles, row, col / kGroup, padded_groups(s.heads * kHeadDim), value);
    if (!finite) atomicMin(args.fault + row, args.code);
}

template <uint32_t kHeadDim>
cudaError_t launch(cudaStream_t stream, const Attention& args) {
    constexpr size_t kShared = sizeof(Chunk<kHeadDim>);
    const cudaError_t allowed = cudaFuncSetAttribute(attention_split_kernel<kHeadDim>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    const Sequences& s = args.sequences;
    const dim3 split(args.max_chunks, s.kv_heads, args.decode_rows);
    const cudaError_t launched =
        launch_overlapping(attention_split_kernel<kHeadDim>, split, kWarps * 32, kShared, stream, args);
    if (launched != cudaSuccess) return launched;
    return launch_overlapping(attention_merge_kernel<kHeadDim>, dim3(s.heads, args.decode_rows), kHeadDim, 0, stream,
                              args);
}

}  // namespace

cudaError_t attention_decode(cudaStream_t stream, const Attention& args) {
    return args.sequences.head_dim == 64 ? launch<64>(stream, args) : launch<128>(stream, args);
}

}  // namespace driftwood::compute::cuda
