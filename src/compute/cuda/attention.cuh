// What the tensor-core kernels of attention share (rule 7): a chunk of one KV head in shared memory, and its two
// integer products as byte planes, four mma each. Any order of the summed index is as good as any other, so it is
// chosen such that the documented layout of a block (kv.h) is read word by word, without a transpose.
#pragma once

#include "compute/constants.h"
#include "compute/cuda/kernels.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/mma.cuh"

namespace driftwood::compute::cuda {

// One head's part of a block; rows are padded so that the lanes of a warp meet no shared bank.
template <uint32_t kHeadDim>
struct Keys {
    uint32_t k[2 * kHeadDim / 2][40];  // [key half · pair of dimensions][32 keys]: two int16
    float k_scale[kBlockTokens];
};
template <uint32_t kHeadDim>
struct Values {
    uint32_t v[kBlockTokens / 2][kHeadDim + 8];  // [pair of keys][dimension]: two int16
    float v_scale[kBlockTokens];
};
template <uint32_t kHeadDim>
struct Chunk : Keys<kHeadDim>, Values<kHeadDim> {};

template <uint32_t kHeadDim>
constexpr size_t kHeadBytes = size_t{4} * kBlockTokens* kHeadDim + size_t{2} * kBlockTokens * sizeof(float);

// Copies a head's part of a block with `threads` threads, all of the block's unless said otherwise; the caller commits
// and waits.
template <uint32_t kHeadDim>
__device__ void load_chunk(Chunk<kHeadDim>& chunk, const uint8_t* head, uint32_t thread, uint32_t threads) {
    constexpr uint32_t kRows = kHeadDim;  // of 32 words
    for (uint32_t i = thread; i < kRows * 8; i += threads) cp_async_16(&chunk.k[i / 8][i % 8 * 4], head + i * 16);
    constexpr uint32_t kPerRow = kHeadDim / 4;
    const uint8_t* v = head + size_t{2} * kBlockTokens * kHeadDim;
    for (uint32_t i = thread; i < kBlockTokens / 2 * kPerRow; i += threads) {
        cp_async_16(&chunk.v[i / kPerRow][i % kPerRow * 4], v + i * 16);
    }
    const uint8_t* scales = v + size_t{2} * kBlockTokens * kHeadDim;
    constexpr uint32_t kScales = kBlockTokens / 4;
    for (uint32_t i = thread; i < 2 * kScales; i += threads) {
        cp_async_16(i < kScales ? chunk.k_scale + i * 4 : chunk.v_scale + (i - kScales) * 4, scales + i * 16);
    }
}
template <uint32_t kHeadDim>
__device__ void load_chunk(Chunk<kHeadDim>& chunk, const uint8_t* head) {
    load_chunk(chunk, head, threadIdx.x, blockDim.x);
}

// 16 queries of a warp as operands: [step of 32 dimensions][word], high bytes signed, low bytes not.
template <uint32_t kHeadDim>
struct Queries {
    uint32_t high[kHeadDim / 32][4];
    uint32_t low[kHeadDim / 32][4];
};

__device__ inline uint32_t low_bytes(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x6420); }
__device__ inline uint32_t high_bytes(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x7531); }

// Rows g and g + 8 of the warp's queries; a null row is zeros. In a step, slots 4t… of the sum are the pairs of
// dimensions t and 4 + t, slots 16 + 4t… the pairs 8 + t and 12 + t.
template <uint32_t kHeadDim>
__device__ Queries<kHeadDim> load_queries(const int16_t* row0, const int16_t* row8) {
    const uint32_t t = threadIdx.x % 4;
    Queries<kHeadDim> q;
#pragma unroll
    for (uint32_t step = 0; step < kHeadDim / 32; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            const int16_t* row = word % 2 == 0 ? row0 : row8;
            const uint32_t pair = step * 16 + word / 2 * 8 + t;
            uint32_t a = 0, b = 0;
            if (row != nullptr) {
                a = reinterpret_cast<const uint32_t*>(row)[pair];
                b = reinterpret_cast<const uint32_t*>(row)[pair + 4];
            }
            q.low[step][word] = low_bytes(a, b);
            q.high[step][word] = high_bytes(a, b);
        }
    }
    return q;
}

// Scores without the query's scale of 16 queries and the keys 8 tile … 8 tile + 7: u[0], u[1] are row g, keys 2t and
// 2t + 1 of the tile, u[2], u[3] row g + 8.
template <uint32_t kHeadDim>
__device__ void tile_scores(const Queries<kHeadDim>& q, const Keys<kHeadDim>& chunk, uint32_t tile, float (&u)[4]) {
    const uint32_t g = threadIdx.x % 32 / 4;
    const uint32_t t = threadIdx.x % 4;
    const uint32_t first = tile / 4 * (kHeadDim / 2);  // row of the key half
    const uint32_t key = tile % 4 * 8 + g;
    int32_t hh[4] = {}, hl[4] = {}, lh[4] = {}, ll[4] = {};
#pragma unroll
    for (uint32_t step = 0; step < kHeadDim / 32; ++step) {
        const uint32_t row = first + step * 16 + t;
        const uint32_t w0 = chunk.k[row][key];
        const uint32_t w1 = chunk.k[row + 4][key];
        const uint32_t w2 = chunk.k[row + 8][key];
        const uint32_t w3 = chunk.k[row + 12][key];
        const uint32_t low0 = low_bytes(w0, w1), low1 = low_bytes(w2, w3);
        const uint32_t high0 = high_bytes(w0, w1), high1 = high_bytes(w2, w3);
        mma_s8s8(hh, q.high[step], high0, high1);
        mma_s8u8(hl, q.high[step], low0, low1);
        mma_u8s8(lh, q.low[step], high0, high1);
        mma_u8u8(ll, q.low[step], low0, low1);
    }
    const float2 scale = *reinterpret_cast<const float2*>(chunk.k_scale + tile * 8 + 2 * t);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        const auto a = static_cast<int32_t>(static_cast<uint32_t>(hh[i]) * 256U + static_cast<uint32_t>(hl[i]));
        const auto b = static_cast<int32_t>(static_cast<uint32_t>(lh[i]) * 256U + static_cast<uint32_t>(ll[i]));
        const float sum = __fmaf_rn(256.0F, static_cast<float>(a), static_cast<float>(b));
        u[i] = __fmul_rn(sum, i % 2 == 0 ? scale.x : scale.y);
    }
}

// Two words of the operand made of weights: two keys each of two tiles, as 16-bit numbers.
struct WeightPlanes {
    uint32_t high[2][4];  // [step of 32 keys][word]
    uint32_t low[2][4];
};

// Σ weight · v for 16 queries and the dimensions 8 tile … 8 tile + 7, as tile_scores lays them out. In a step of 32
// keys (4 tiles of 8), slots 4t… are keys 2t, 2t + 1 of the first and the second tile, 16 + 4t… of the others.
template <uint32_t kHeadDim>
__device__ void tile_values(const WeightPlanes& w, const Values<kHeadDim>& chunk, uint32_t tile, int32_t (&sum)[4]) {
    const uint32_t g = threadIdx.x % 32 / 4;
    const uint32_t t = threadIdx.x % 4;
    const uint32_t d = tile * 8 + g;
    int32_t hh[4] = {}, mid[4] = {}, ll[4] = {};
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
        const uint32_t row = step * 16 + t;
        const uint32_t w0 = chunk.v[row][d];
        const uint32_t w1 = chunk.v[row + 4][d];
        const uint32_t w2 = chunk.v[row + 8][d];
        const uint32_t w3 = chunk.v[row + 12][d];
        const uint32_t low0 = low_bytes(w0, w1), low1 = low_bytes(w2, w3);
        const uint32_t high0 = high_bytes(w0, w1), high1 = high_bytes(w2, w3);
        mma_u8s8(hh, w.high[step], high0, high1);
        mma_u8u8(mid, w.high[step], low0, low1);
        mma_u8s8(mid, w.low[step], high0, high1);
        mma_u8u8(ll, w.low[step], low0, low1);
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        sum[i] = static_cast<int32_t>((static_cast<uint32_t>(hh[i]) * 256U + static_cast<uint32_t>(mid[i])) * 256U +
                                      static_cast<uint32_t>(ll[i]));
    }
}

// A chunk's integer m from its largest score.
__device__ inline float chunk_max(float c) {
    const float n = round_float(c);
    return __fsub_rn(c, n) >= kTiny ? __fadd_rn(n, 1.0F) : n;
}

// The scale of a chunk's weights from the largest of them.
struct WeightUnit {
    float inv;         // 2^-exponent, 0 where all weights count as zero
    int32_t exponent;  // of the unit; INT32_MIN there
};
__device__ inline WeightUnit weight_unit(float most) {
    if (!(most >= kTiny)) return {0.0F, INT32_MIN};
    const int32_t exponent = static_cast<int32_t>(__float_as_uint(most) >> 23) - 139;
    return {power_of_two(-exponent), exponent};
}
__device__ inline float unit_value(int32_t exponent, int32_t be_exponent) {
    return exponent == INT32_MIN ? 0.0F : power_of_two(exponent + be_exponent);
}

__device__ inline bool in_range(float c, float most) {
    return fabsf(c) < kRoundLimit && magnitude_bits(most) < kInfinityBits;
}

}  // namespace driftwood::compute::cuda
