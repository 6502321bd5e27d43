// Rules 5 and 7 on the card: RoPE, 16-bit rows, and what happens to rows of KV blocks in the documented layout (kv.h).
#include "compute/cuda/kernels.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/math.cuh"
#include "compute/kv.h"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kMaxPairsPerLane = kMaxHeadDim / 2 / 32;

// int16 of (token, d) from a head's start: KvHeadView's, for the card.
__device__ size_t k_index(uint32_t head_dim, uint32_t token, uint32_t d) {
    return static_cast<size_t>(token / 32) * head_dim * 32 + d / 2 * 64 + token % 32 * 2 + d % 2;
}
__device__ size_t v_index(uint32_t head_dim, uint32_t token, uint32_t d) {
    return static_cast<size_t>(kBlockTokens) * head_dim + (token / 2 * head_dim + d) * 2 + token % 2;
}
__device__ size_t scale_index(uint32_t head_dim) { return static_cast<size_t>(head_dim) * kBlockTokens; }
__host__ __device__ constexpr size_t head_bytes(uint32_t head_dim) {
    return size_t{4} * kBlockTokens * head_dim + size_t{2} * kBlockTokens * sizeof(float);
}

// A warp turns and quantises one head of one row: first the queries, then keys, then values.
__global__ void rope_store_kernel(RopeStore args) {
    wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t heads = s.heads + 2 * s.kv_heads;
    const uint32_t index = blockIdx.x * kWarps + threadIdx.x / 32;
    if (index >= s.rows * heads) return;
    const uint32_t row = index / heads;
    const uint32_t which = index % heads;
    const bool is_q = which < s.heads;
    const bool is_k = !is_q && which < s.heads + s.kv_heads;
    const uint32_t head = is_q ? which : is_k ? which - s.heads : which - s.heads - s.kv_heads;
    const uint32_t position = s.position[row];
    const uint32_t half = s.head_dim / 2;
    const float* x = is_q   ? args.q + (static_cast<size_t>(row) * s.heads + head) * s.head_dim
                     : is_k ? args.k + (static_cast<size_t>(row) * s.kv_heads + head) * s.head_dim
                            : args.v + (static_cast<size_t>(row) * s.kv_heads + head) * s.head_dim;
    const bool adjacent = args.pairs == RopePairs::kAdjacent;

    float x0[kMaxPairsPerLane], x1[kMaxPairsPerLane];
    uint32_t most = 0;
    for (uint32_t i = 0; i < kMaxPairsPerLane; ++i) {
        const uint32_t pair = i * 32 + lane;
        x0[i] = x1[i] = 0.0F;
        if (pair >= half) continue;
        const float a = x[adjacent ? 2 * pair : pair];
        const float b = x[adjacent ? 2 * pair + 1 : pair + half];
        x0[i] = a;
        x1[i] = b;
        if (is_q || is_k) {
            const float c = args.cosine[static_cast<size_t>(position) * half + pair];
            const float sn = args.sine[static_cast<size_t>(position) * half + pair];
            x0[i] = __fmaf_rn(-b, sn, __fmul_rn(a, c));
            x1[i] = __fmaf_rn(b, c, __fmul_rn(a, sn));
        }
        most = max(most, max(magnitude_bits(x0[i]), magnitude_bits(x1[i])));
    }
    most = warp_max(most);

    const bool zero = most < __float_as_uint(kTiny);
    const float limit = is_q || is_k ? kMaxQ16 : kMaxV16;
    const float to_integer = __fdiv_rn(limit, __uint_as_float(most));
    const float scale = zero ? 0.0F : __fdiv_rn(__uint_as_float(most), limit);
    uint8_t* kv = s.blocks[s.table[row] + position / kBlockTokens] +
                  (static_cast<size_t>(s.layer) * s.kv_heads + head) * head_bytes(s.head_dim);
    auto* ints = reinterpret_cast<int16_t*>(kv);
    int16_t* q16 = args.q16 + (static_cast<size_t>(row) * s.heads + head) * s.head_dim;
    const uint32_t token = position % kBlockTokens;
    for (uint32_t i = 0; i < kMaxPairsPerLane; ++i) {
        const uint32_t pair = i * 32 + lane;
        if (pair >= half) continue;
        const uint32_t d[2] = {adjacent ? 2 * pair : pair, adjacent ? 2 * pair + 1 : pair + half};
        const float value[2] = {x0[i], x1[i]};
        for (uint32_t j = 0; j < 2; ++j) {
            const auto n = static_cast<int16_t>(zero ? 0 : round_int(__fmul_rn(value[j], to_integer)));
            if (is_q) {
                q16[d[j]] = n;
            } else {
                ints[is_k ? k_index(s.head_dim, token, d[j]) : v_index(s.head_dim, token, d[j])] = n;
            }
        }
    }
    if (lane != 0) return;
    if (is_q) {
        args.cq[static_cast<size_t>(row) * s.heads + head] = __fmul_rn(scale, args.query_scale);
    } else {
        auto* scales = reinterpret_cast<float*>(kv) + scale_index(s.head_dim);
        scales[is_k ? token : kBlockTokens + token] = scale;
    }
    if (most >= kInfinityBits) atomicMin(args.fault + row, is_q ? args.q_code : is_k ? args.k_code : args.v_code);
}

__device__ void set_row(uint8_t* to, const uint8_t* from, uint32_t head_dim, uint32_t token) {
    auto* ints = reinterpret_cast<int16_t*>(to);
    const auto* source = reinterpret_cast<const int16_t*>(from);
    for (uint32_t d = threadIdx.x; d < head_dim; d += blockDim.x) {
        const size_t k = k_index(head_dim, token, d);
        const size_t v = v_index(head_dim, token, d);
        ints[k] = source == nullptr ? int16_t{0} : source[k];
        ints[v] = source == nullptr ? int16_t{0} : source[v];
    }
    if (threadIdx.x >= 2) return;
    const size_t scale = scale_index(head_dim) + threadIdx.x * kBlockTokens + token;
    reinterpret_cast<float*>(to)[scale] = source == nullptr ? 0.0F : reinterpret_cast<const float*>(from)[scale];
}

__global__ void set_rows_kernel(uint8_t* to, const uint8_t* from, uint32_t head_dim, uint32_t begin, uint32_t end) {
    const size_t offset = blockIdx.x * head_bytes(head_dim);
    for (uint32_t token = begin; token < end; ++token) {
        set_row(to + offset, from == nullptr ? nullptr : from + offset, head_dim, token);
    }
}

}  // namespace

cudaError_t rope_store(cudaStream_t stream, const RopeStore& args) {
    const Sequences& s = args.sequences;
    const uint32_t warps = s.rows * (s.heads + 2 * s.kv_heads);
    return launch_overlapping(rope_store_kernel, dim3((warps + kWarps - 1) / kWarps), kThreads, 0, stream, args);
}

cudaError_t clear_block_rows(cudaStream_t stream, uint8_t* block, uint32_t heads, uint32_t head_dim,
                             uint32_t first_row) {
    set_rows_kernel<<<heads, kThreads, 0, stream>>>(block, nullptr, head_dim, first_row, kBlockTokens);
    return cudaGetLastError();
}

cudaError_t copy_block_rows(cudaStream_t stream, const uint8_t* from, uint8_t* to, uint32_t heads, uint32_t head_dim,
                            uint32_t rows) {
    set_rows_kernel<<<heads, kThreads, 0, stream>>>(to, from, head_dim, 0, rows);
    return cudaGetLastError();
}

}  // namespace driftwood::compute::cuda
