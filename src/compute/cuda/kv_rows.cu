// Rules 5 and 7 on the card: RoPE, 16-bit rows, and what happens to rows of KV blocks in the documented layout (kv.h).
#include "compute/cuda/kernels.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/math.cuh"
#include "compute/cuda/rope.cuh"
#include "compute/kv.h"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;

__host__ __device__ constexpr size_t head_bytes(uint32_t head_dim) {
    return size_t{4} * kBlockTokens * head_dim + size_t{2} * kBlockTokens * sizeof(float);
}

// A warp has one head of one row: first the queries, then keys, then values. kPairs: of a lane.
template <uint32_t kPairs>
__global__ void rope_store_kernel(RopeStore args) {
    wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t heads = s.heads + 2 * s.kv_heads;
    const uint32_t index = blockIdx.x * kWarps + threadIdx.x / 32;
    if (index >= s.rows * heads) return;
    const uint32_t row = index / heads;
    const uint32_t which = index % heads;
    const HeadOf of = which < s.heads ? HeadOf::kQuery : which < s.heads + s.kv_heads ? HeadOf::kKey : HeadOf::kValue;
    const uint32_t head = of == HeadOf::kQuery ? which : (which - s.heads) % s.kv_heads;
    const uint32_t position = s.position[row];
    const uint32_t table = s.table[row];
    const float* x = of == HeadOf::kQuery ? args.q : of == HeadOf::kKey ? args.k : args.v;
    const size_t at = static_cast<size_t>(row) * (of == HeadOf::kQuery ? s.heads : s.kv_heads) + head;
    uint8_t* block = of == HeadOf::kQuery ? nullptr : s.blocks[table + position / kBlockTokens];
    const auto made = make_head_row<kPairs>(args, x + at * s.head_dim, of, position);
    if (of == HeadOf::kQuery) {
        const uint32_t lane = threadIdx.x % 32;
#pragma unroll
        for (uint32_t i = 0; i < kPairs; ++i) {
            const uint32_t pair = i * 32 + lane;
            if (pair >= s.head_dim / 2) continue;
#pragma unroll
            for (uint32_t j = 0; j < 2; ++j) {
                args.q16[at * s.head_dim + pair_dim(args.pairs, s.head_dim / 2, pair, j)] = made.n[i][j];
            }
        }
        if (lane == 0) args.cq[at] = __fmul_rn(made.scale, args.query_scale);
    } else {
        uint8_t* kv = block + (static_cast<size_t>(s.layer) * s.kv_heads + head) * head_bytes(s.head_dim);
        store_head_row(args.pairs, s.head_dim, made, of, kv, position % kBlockTokens);
    }
    if (!made.finite && threadIdx.x % 32 == 0) {
        atomicMin(args.fault + row, of == HeadOf::kQuery ? args.q_code
                                    : of == HeadOf::kKey ? args.k_code
                                                         : args.v_code);
    }
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
    const auto kernel = s.head_dim <= 64    ? rope_store_kernel<1>
                        : s.head_dim <= 128 ? rope_store_kernel<2>
                                            : rope_store_kernel<kMaxHeadDim / 64>;
    return launch_overlapping(kernel, dim3((warps + kWarps - 1) / kWarps), kThreads, 0, stream, args);
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
