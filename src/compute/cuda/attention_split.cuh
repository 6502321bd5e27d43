// One chunk of one KV head for one query token (rule 7), by a few warps that share the chunk in shared memory: turning
// the group's queries and the token's own key and value, then m, l, the weights' unit and the integer sums.
#pragma once

#include "compute/cuda/attention.cuh"
#include "compute/cuda/rope.cuh"

namespace driftwood::compute::cuda {

constexpr uint32_t kSplitQueries = 16;

template <uint32_t kWarps>
struct SplitExchange {
    float scores[kWarps][kSplitQueries];
    float weights[kWarps][kSplitQueries];
    int32_t sums[kWarps][kSplitQueries];
    uint16_t weight[kSplitQueries][kBlockTokens + 8];
};

template <uint32_t kHeadDim>
struct Turned {
    int16_t q[kSplitQueries][kHeadDim];
    float cq[kSplitQueries];
};

// A query that a warp has turned, for attend_chunk.
template <uint32_t kHeadDim>
__device__ void keep_query(Turned<kHeadDim>& turned, uint32_t i, RopePairs pairs, const HeadRow<kHeadDim / 64>& made,
                           float query_scale) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t p = 0; p < kHeadDim / 64; ++p) {
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            turned.q[i][pair_dim(pairs, kHeadDim / 2, p * 32 + lane, j)] = made.n[p][j];
        }
    }
    if (lane == 0) turned.cq[i] = __fmul_rn(made.scale, query_scale);
}

// The token's own key or value: into the cache, and into its chunk, which is in shared memory already.
template <uint32_t kHeadDim>
__device__ void keep_own(Keys<kHeadDim>& keys, Values<kHeadDim>& values, uint8_t* block, RopePairs pairs,
                         const HeadRow<kHeadDim / 64>& made, HeadOf of, uint32_t token) {
    const uint32_t lane = threadIdx.x % 32;
    store_head_row(pairs, kHeadDim, made, of, block, token);
#pragma unroll
    for (uint32_t p = 0; p < kHeadDim / 64; ++p) {
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            const uint32_t d = pair_dim(pairs, kHeadDim / 2, p * 32 + lane, j);
            auto* word =
                of == HeadOf::kKey ? &keys.k[token / 32 * (kHeadDim / 2) + d / 2][token % 32] : &values.v[token / 2][d];
            reinterpret_cast<int16_t*>(word)[of == HeadOf::kKey ? d % 2 : token % 2] = made.n[p][j];
        }
    }
    if (lane == 0) (of == HeadOf::kKey ? keys.k_scale : values.v_scale)[token] = made.scale;
}

// What a chunk leaves for the merge, for one head.
struct ChunkPart {
    float m;
    int32_t l;
    int32_t exponent;  // of the weights' unit; INT32_MIN: all weights are zero
};

// kWarps warps, numbered by `warp`; `sync()` is their barrier, which they have passed since chunk, q16 and head_cq were
// written. put_part(head, part, in range) and put_sums(head, dimension, sums of it and the next) take the results.
// kEights eights of queries are worked on: what products make of the others, nobody reads.
template <uint32_t kHeadDim, uint32_t kWarps, uint32_t kEights, class Sync, class PutPart, class PutSums>
__device__ void attend_chunk(const Chunk<kHeadDim>& chunk, SplitExchange<kWarps>& exchange, const int16_t* q16,
                             const float* head_cq, uint32_t group, uint32_t keys, uint32_t warp, const Sync& sync,
                             const PutPart& put_part, const PutSums& put_sums) {
    constexpr uint32_t kTiles = kBlockTokens / 8 / kWarps;  // of keys, of a warp
    const uint32_t g = threadIdx.x % 32 / 4;
    const uint32_t t = threadIdx.x % 4;
    const Queries<kHeadDim> q = load_queries<kHeadDim>(g < group ? q16 + g * kHeadDim : nullptr,
                                                       g + 8 < group ? q16 + (g + 8) * kHeadDim : nullptr);
    const float cq[2] = {g < group ? head_cq[g] : 0.0F, g + 8 < group ? head_cq[g + 8] : 0.0F};
    float u[kTiles][4];
    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (uint32_t j = 0; j < kTiles; ++j) {
        tile_scores(q, chunk, warp * kTiles + j, u[j]);
#pragma unroll
        for (uint32_t i = 0; i < 2 * kEights; ++i) {
            if ((warp * kTiles + j) * 8 + 2 * t + i % 2 < keys) most[i / 2] = fmaxf(most[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kEights; ++i) {
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 1));
        most[i] = fmaxf(most[i], __shfl_xor_sync(kAllLanes, most[i], 2));
        if (t == 0) exchange.scores[warp][g + i * 8] = most[i];
    }
    sync();
    float c[2], m[2];
    float largest[2] = {0.0F, 0.0F};
    int32_t l[2] = {0, 0};
#pragma unroll
    for (uint32_t i = 0; i < kEights; ++i) {
        for (uint32_t w = 0; w < kWarps; ++w) most[i] = fmaxf(most[i], exchange.scores[w][g + i * 8]);
        c[i] = __fmul_rn(most[i], cq[i]);
        m[i] = chunk_max(c[i]);
    }
#pragma unroll
    for (uint32_t j = 0; j < kTiles; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 2 * kEights; ++i) {
            const uint32_t key = (warp * kTiles + j) * 8 + 2 * t + i % 2;
            const float x = __fmaf_rn(u[j][i], cq[i / 2], -m[i / 2]);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            u[j][i] = key < keys ? __fmul_rn(p, chunk.v_scale[key]) : 0.0F;
            l[i / 2] += key < keys ? round_int(__fmul_rn(p, kWeightScale)) : 0;
            largest[i / 2] = fmaxf(largest[i / 2], u[j][i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kEights; ++i) {
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 1));
        largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], 2));
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 1);
        l[i] += __shfl_xor_sync(kAllLanes, l[i], 2);
        if (t == 0) exchange.weights[warp][g + i * 8] = largest[i];
        if (t == 0) exchange.sums[warp][g + i * 8] = l[i];
    }
    sync();
#pragma unroll
    for (uint32_t i = 0; i < kEights; ++i) {
        l[i] = 0;
        for (uint32_t w = 0; w < kWarps; ++w) {
            largest[i] = fmaxf(largest[i], exchange.weights[w][g + i * 8]);
            l[i] += exchange.sums[w][g + i * 8];
        }
        const WeightUnit unit = weight_unit(largest[i]);
#pragma unroll
        for (uint32_t j = 0; j < kTiles; ++j) {
            for (uint32_t k = 0; k < 2; ++k) {
                const int32_t weight = round_int(__fmul_rn(u[j][i * 2 + k], unit.inv));
                exchange.weight[g + i * 8][(warp * kTiles + j) * 8 + 2 * t + k] = static_cast<uint16_t>(weight);
            }
        }
        const uint32_t head = g + i * 8;
        if (warp == 0 && t == 0 && head < group) {
            put_part(head, ChunkPart{m[i], l[i], unit.exponent}, in_range(c[i], largest[i]));
        }
    }
    sync();

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
    for (uint32_t j = 0; j < kHeadDim / 8 / kWarps; ++j) {
        const uint32_t tile = warp * (kHeadDim / 8 / kWarps) + j;
        int32_t sum[4];
        tile_values(w, chunk, tile, sum);
#pragma unroll
        for (uint32_t i = 0; i < kEights; ++i) {
            const uint32_t head = g + i * 8;
            if (head < group) put_sums(head, tile * 8 + 2 * t, int2{sum[2 * i], sum[2 * i + 1]});
        }
    }
}

// Lanes are neighbouring chunks of one head; the merge of rule 7 as factors, chunk by chunk, found all at once.
struct alignas(16) MergeFactors {
    float al;
    float unit;
    float l;  // as a float
    float be;
};
// `part` of lanes beyond the last chunk: {kFirstMax, 0, INT32_MIN}. running_max: before these chunks, then after them.
__device__ inline MergeFactors merge_factors(const ChunkPart& part, float& running_max) {
    const uint32_t lane = threadIdx.x % 32;
    float most = part.m;  // the maximum up to and with this chunk
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const float other = __shfl_up_sync(kAllLanes, most, step);
        if (lane >= step) most = fmaxf(most, other);
    }
    most = fmaxf(most, running_max);
    float before = __shfl_up_sync(kAllLanes, most, 1);
    if (lane == 0) before = running_max;
    running_max = __shfl_sync(kAllLanes, most, 31);
    const auto be_exponent = static_cast<int32_t>(__fsub_rn(part.m, most));
    return {power_of_two(static_cast<int32_t>(__fsub_rn(before, most))), unit_value(part.exponent, be_exponent),
            static_cast<float>(part.l), power_of_two(be_exponent)};
}

}  // namespace driftwood::compute::cuda
