// Rule 7 for many queries of one sequence: a warp keeps 16 of them (tokens times the heads that share a KV head) and
// their outputs in registers and walks the chunks in order; the four warps of a block share each chunk, which the next
// one's copy overtakes.
#include "compute/cuda/attention_rows.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kWarps = kPrefillQueries / 16;

template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kWarps * 32) attention_prefill_kernel(Attention args) {
    extern __shared__ __align__(16) uint8_t shared[];
    auto* chunks = reinterpret_cast<Chunk<kHeadDim>*>(shared);
    const Sequences& s = args.sequences;
    const AttentionTask task = args.task[blockIdx.x];
    const uint32_t kv_head = blockIdx.y;
    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t lane = threadIdx.x % 32;

    Row rows[2];
    const int16_t* queries[2] = {};
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t query = task.first_query + threadIdx.x / 32 * 16 + i * 8 + lane / 4;
        if (query >= task.end_query) continue;
        rows[i].row = task.first_row + query / group;
        rows[i].head = kv_head * group + query % group;
        rows[i].visible = s.position[rows[i].row] + 1;
        const size_t at = static_cast<size_t>(rows[i].row) * s.heads + rows[i].head;
        rows[i].cq = args.cq[at];
        queries[i] = args.q16 + at * kHeadDim;
    }
    const Queries<kHeadDim> q = load_queries<kHeadDim>(queries[0], queries[1]);
    const uint32_t last_row = task.first_row + (task.end_query - 1) / group;
    const uint32_t count = s.position[last_row] / kBlockTokens + 1;
    const uint32_t least_visible = s.position[task.first_row + task.first_query / group] + 1;
    uint8_t* const* blocks = s.blocks + s.table[task.first_row];
    const size_t offset = (static_cast<size_t>(s.layer) * s.kv_heads + kv_head) * kHeadBytes<kHeadDim>;

    float out[kHeadDim / 8][4] = {};
    load_chunk(chunks[0], blocks[0] + offset);
    cp_async_commit();
    for (uint32_t chunk = 0; chunk < count; ++chunk) {
        if (chunk + 1 < count) load_chunk(chunks[(chunk + 1) % 2], blocks[chunk + 1] + offset);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        const Chunk<kHeadDim>& now = chunks[chunk % 2];
        const uint32_t first_key = chunk * kBlockTokens;
        float u0[8][2], u8[8][2];
#pragma unroll
        for (uint32_t tile = 0; tile < 8; ++tile) {
            float u[4];
            tile_scores(q, now, tile, u);
            u0[tile][0] = u[0];
            u0[tile][1] = u[1];
            u8[tile][0] = u[2];
            u8[tile][1] = u[3];
        }
        Merge merge[2];
        if (first_key + kBlockTokens <= least_visible) {
            merge[0] = weigh<false>(u0, rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<false>(u8, rows[1], first_key, now.v_scale, args);
        } else {
            merge[0] = weigh<true>(u0, rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<true>(u8, rows[1], first_key, now.v_scale, args);
        }
        WeightPlanes w;
        planes(u0, u8, w);
#pragma unroll
        for (uint32_t tile = 0; tile < kHeadDim / 8; ++tile) {
            int32_t sum[4];
            tile_values(w, now, tile, sum);
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) {
                const Merge& by = merge[i / 2];
                out[tile][i] = __fmaf_rn(static_cast<float>(sum[i]), by.unit, __fmul_rn(out[tile][i], by.al));
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        if (rows[i].visible == 0) continue;
        const float factor = __fdiv_rn(kWeightScale, rows[i].sum);
        float* to = args.out + (static_cast<size_t>(rows[i].row) * s.heads + rows[i].head) * kHeadDim + lane % 4 * 2;
#pragma unroll
        for (uint32_t tile = 0; tile < kHeadDim / 8; ++tile) {
            const float2 value = {__fmul_rn(out[tile][2 * i], factor), __fmul_rn(out[tile][2 * i + 1], factor)};
            *reinterpret_cast<float2*>(to + tile * 8) = value;
        }
    }
}

template <uint32_t kHeadDim>
cudaError_t launch(cudaStream_t stream, const Attention& args) {
    constexpr size_t kShared = 2 * sizeof(Chunk<kHeadDim>);
    const cudaError_t allowed = cudaFuncSetAttribute(attention_prefill_kernel<kHeadDim>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    const dim3 grid(args.tasks, args.sequences.kv_heads);
    attention_prefill_kernel<kHeadDim><<<grid, kWarps * 32, kShared, stream>>>(args);
    return cudaGetLastError();
}

}  // namespace

uint32_t prefill_queries(uint32_t head_dim) { return has_warpgroups() ? wide_queries(head_dim) : kPrefillQueries; }

cudaError_t attention_prefill(cudaStream_t stream, const Attention& args) {
    if (has_warpgroups()) return attention_wide(stream, args);
    return args.sequences.head_dim == 64 ? launch<64>(stream, args) : launch<128>(stream, args);
}

}  // namespace driftwood::compute::cuda
