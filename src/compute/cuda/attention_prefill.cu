// Rule 7 for many queries of one sequence: a warp keeps 16 of them (tokens times the heads that share a KV head) and
// their outputs in registers and walks the chunks in order; the four warps of a block share each chunk, which the next
// one's copy overtakes.
#include "compute/cuda/attention.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kWarps = kPrefillQueries / 16;

// What a lane knows of its two rows (g and g + 8 of the warp's 16).
struct Row {
    uint32_t row = 0;  // of the pass
    uint32_t head = 0;
    uint32_t visible = 0;  // 0: no query
    float cq = 0.0F;
    float max = kFirstMax;
    float sum = 0.0F;
};

__device__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
    return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ int32_t quad_sum(int32_t x) {
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// One row's half of a chunk's scores (in u: scores in, weights' bits out). Returns what the merge needs.
struct Merge {
    float al;
    float unit;
};

template <bool kMasked>
__device__ Merge weigh(float (&u)[8][2], Row& row, uint32_t first_key, const float* v_scale, const Attention& args) {
    const uint32_t t = threadIdx.x % 4;
    float most = -INFINITY;
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            if (!kMasked || first_key + tile * 8 + 2 * t + i < row.visible) most = fmaxf(most, u[tile][i]);
        }
    }
    most = quad_max(most);
    const float c = __fmul_rn(most, row.cq);
    const float m = chunk_max(c);
    int32_t l = 0;
    float largest = 0.0F;
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
        const float2 vs = *reinterpret_cast<const float2*>(v_scale + tile * 8 + 2 * t);
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const float x = __fmaf_rn(u[tile][i], row.cq, -m);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            float w = __fmul_rn(p, i == 0 ? vs.x : vs.y);
            // One rounding, as the product with a power of two is exact: IRINT(p · 2^20).
            const float rounded = __fmaf_rn(p, kWeightScale, kRoundMagic);
            auto part = static_cast<int32_t>(__float_as_uint(rounded) - kRoundMagicBits);
            if (kMasked && first_key + tile * 8 + 2 * t + i >= row.visible) {
                w = 0.0F;
                part = 0;
            }
            l += part;
            largest = fmaxf(largest, w);
            u[tile][i] = w;
        }
    }
    l = quad_sum(l);
    largest = quad_max(largest);
    if (first_key < row.visible && !in_range(c, largest)) atomicMin(args.fault + row.row, args.code);
    const WeightUnit unit = weight_unit(largest);
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) u[tile][i] = __fmaf_rn(u[tile][i], unit.inv, kRoundMagic);
    }
    const float new_max = fmaxf(row.max, m);
    const float al = power_of_two(static_cast<int32_t>(__fsub_rn(row.max, new_max)));
    const auto be_exponent = static_cast<int32_t>(__fsub_rn(m, new_max));
    row.sum = __fmaf_rn(static_cast<float>(l), power_of_two(be_exponent), __fmul_rn(row.sum, al));
    row.max = new_max;
    return {al, unit_value(unit.exponent, be_exponent)};
}

// Weights lie in the low 16 bits of the floats that rounding made.
__device__ void planes(const float (&u0)[8][2], const float (&u8)[8][2], WeightPlanes& w) {
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            const float(&u)[8][2] = word % 2 == 0 ? u0 : u8;
            const uint32_t tile = step * 4 + word / 2 * 2;
            const uint32_t a = __byte_perm(__float_as_uint(u[tile][0]), __float_as_uint(u[tile][1]), 0x5410);
            const uint32_t b = __byte_perm(__float_as_uint(u[tile + 1][0]), __float_as_uint(u[tile + 1][1]), 0x5410);
            w.low[step][word] = low_bytes(a, b);
            w.high[step][word] = high_bytes(a, b);
        }
    }
}

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
        // A chunk of which a row sees nothing must not be merged: its registers stay as they are.
        Row before[2] = {rows[0], rows[1]};
        Merge merge[2];
        if (first_key + kBlockTokens <= least_visible) {
            merge[0] = weigh<false>(u0, rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<false>(u8, rows[1], first_key, now.v_scale, args);
        } else {
            merge[0] = weigh<true>(u0, rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<true>(u8, rows[1], first_key, now.v_scale, args);
        }
        const bool sees[2] = {first_key < rows[0].visible, first_key < rows[1].visible};
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            if (!sees[i]) rows[i] = before[i];
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
                const float next = __fmaf_rn(static_cast<float>(sum[i]), by.unit, __fmul_rn(out[tile][i], by.al));
                out[tile][i] = sees[i / 2] ? next : out[tile][i];
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

cudaError_t attention_prefill(cudaStream_t stream, const Attention& args) {
    return args.sequences.head_dim == 64 ? launch<64>(stream, args) : launch<128>(stream, args);
}

}  // namespace driftwood::compute::cuda
