// Rule 7 for many queries of one sequence, by warpgroups (wgmma): each has 64 queries, as attention_prefill.cu's blocks
// do, and keeps their outputs in registers. One more warpgroup reads the chunks, ahead of them, and splits keys and
// values into planes of bytes, in the cores that products want (layout.h).
#include "compute/cuda/attention_rows.cuh"
#include "compute/cuda/wgmma.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kGroupThreads = 128;
constexpr uint32_t kQueries = 64;  // of a warpgroup
constexpr uint32_t kRing = 3;

// A chunk of one KV head. Planes: [16 bytes of depth][64 rows][16]; keys are rows of dimensions, values dimensions of
// keys, which lie as the weights of a lane do: 16 bytes are, for t = 0…3, keys 2t and 2t + 1 of one tile of 8, then
// those of the next tile.
template <uint32_t kHeadDim>
struct Planes {
    uint8_t k_high[kHeadDim / 16][kBlockTokens][16];
    uint8_t k_low[kHeadDim / 16][kBlockTokens][16];
    uint8_t v_high[kHeadDim / 64][kBlockTokens / 16][64][16];
    uint8_t v_low[kHeadDim / 64][kBlockTokens / 16][64][16];
    float k_scale[kBlockTokens];
    float v_scale[kBlockTokens];
};

template <uint32_t kHeadDim>
struct Shared {
    Planes<kHeadDim> chunk[kRing];
    CopyBarrier full[kRing];
    CopyBarrier empty[kRing];
};

template <uint32_t kHeadDim>
constexpr uint32_t kConsumers = wide_queries(kHeadDim) / kQueries;
template <uint32_t kHeadDim>
constexpr uint32_t kThreads = (kConsumers<kHeadDim> + 1) * kGroupThreads;

#if defined(DW_WARPGROUPS)

constexpr uint32_t kCoreDepth = 64 * 16;   // bytes from 16 bytes of depth to the next
constexpr uint32_t kCoreColumns = 8 * 16;  // from 8 rows to the next

// 8 words, each of two 16-bit numbers, as 16 high and 16 low bytes; word i goes with word partner(i).
__device__ void put_planes(const uint32_t (&w)[8], bool neighbours, uint8_t* high, uint8_t* low) {
    uint4 h, l;
    if (neighbours) {
        h = {high_bytes(w[0], w[1]), high_bytes(w[2], w[3]), high_bytes(w[4], w[5]), high_bytes(w[6], w[7])};
        l = {low_bytes(w[0], w[1]), low_bytes(w[2], w[3]), low_bytes(w[4], w[5]), low_bytes(w[6], w[7])};
    } else {
        h = {high_bytes(w[0], w[4]), high_bytes(w[1], w[5]), high_bytes(w[2], w[6]), high_bytes(w[3], w[7])};
        l = {low_bytes(w[0], w[4]), low_bytes(w[1], w[5]), low_bytes(w[2], w[6]), low_bytes(w[3], w[7])};
    }
    *reinterpret_cast<uint4*>(high) = h;
    *reinterpret_cast<uint4*>(low) = l;
}

// The work of the warpgroup that reads: chunks 0 … count - 1.
template <uint32_t kHeadDim>
__device__ void read_chunks(Shared<kHeadDim>& shared, uint8_t* const* blocks, size_t offset, uint32_t count) {
    constexpr uint32_t kUnits = kHeadDim / 32;  // of 8 words, of a thread, for keys and as many for values
    const uint32_t thread = threadIdx.x % kGroupThreads;
    const uint32_t row = thread % 64;
    const uint32_t first = thread / 64;
    for (uint32_t chunk = 0; chunk < count; ++chunk) {
        const uint8_t* head = blocks[chunk] + offset;
        const auto* k = reinterpret_cast<const uint32_t*>(head) + row / 32 * (kHeadDim / 2 * 32) + row % 32;
        const auto* v = reinterpret_cast<const uint32_t*>(head) + kBlockTokens * kHeadDim / 2;
        const auto* scales = reinterpret_cast<const float*>(v + kBlockTokens * kHeadDim / 2);
        uint32_t words[kUnits][8];
#pragma unroll
        for (uint32_t i = 0; i < kUnits; ++i) {
            const uint32_t depth = i * 2 + first;  // of 16 dimensions
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) words[i][j] = __ldg(k + (depth * 8 + j) * 32);
        }
        const float scale = __ldg(scales + thread);
        Planes<kHeadDim>& to = shared.chunk[chunk % kRing];
        if (chunk >= kRing) wait_for_bytes(shared.empty[chunk % kRing], (chunk / kRing - 1) % 2);
#pragma unroll
        for (uint32_t i = 0; i < kUnits; ++i) {
            const uint32_t depth = i * 2 + first;
            put_planes(words[i], true, to.k_high[depth][row], to.k_low[depth][row]);
        }
#pragma unroll
        for (uint32_t i = 0; i < kUnits; ++i) {
            const uint32_t unit = i * 2 + first;  // 64 dimensions of 16 keys
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                words[i][j] = __ldg(v + (unit % 4 * 8 + j) * kHeadDim + unit / 4 * 64 + row);
            }
        }
        (thread < kBlockTokens ? to.k_scale : to.v_scale)[row] = scale;
#pragma unroll
        for (uint32_t i = 0; i < kUnits; ++i) {
            const uint32_t unit = i * 2 + first;
            put_planes(words[i], false, to.v_high[unit / 4][unit % 4][row], to.v_low[unit / 4][unit % 4][row]);
        }
        publish_to_products();
        __syncwarp();
        if (thread % 32 == 0) arrive(shared.full[chunk % kRing]);
    }
}

// 16 queries of a warp: [32 dimensions][word], words of four dimensions as mma's A has them.
template <uint32_t kHeadDim>
__device__ void load_query_planes(const int16_t* const (&rows)[2], Queries<kHeadDim>& q) {
    const uint32_t t = threadIdx.x % 4;
#pragma unroll
    for (uint32_t step = 0; step < kHeadDim / 32; ++step) {
#pragma unroll
        for (uint32_t word = 0; word < 4; ++word) {
            uint2 four = {0, 0};
            if (rows[word % 2] != nullptr) {
                four = *reinterpret_cast<const uint2*>(rows[word % 2] + step * 32 + word / 2 * 16 + 4 * t);
            }
            q.low[step][word] = low_bytes(four.x, four.y);
            q.high[step][word] = high_bytes(four.x, four.y);
        }
    }
}

__device__ void times_256(int32_t (&sum)[32]) {
#pragma unroll
    for (int32_t& x : sum) x = static_cast<int32_t>(static_cast<uint32_t>(x) << 8);
}

// Scores of a warpgroup's queries and a chunk's keys, without the query's scale.
template <uint32_t kHeadDim>
__device__ void scores(const Queries<kHeadDim>& q, const Planes<kHeadDim>& chunk, float (&u)[2][8][2]) {
    const uint64_t high = cores_at(chunk.k_high, kCoreDepth, kCoreColumns);
    const uint64_t low = cores_at(chunk.k_low, kCoreDepth, kCoreColumns);
    int32_t a[32] = {}, b[32] = {};  // of the queries' high and low bytes
    products_begin();
    product_s8s8<Sum::kNew>(a, q.high[0], high);
    product_u8s8<Sum::kNew>(b, q.low[0], high);
#pragma unroll
    for (uint32_t step = 1; step < kHeadDim / 32; ++step) {
        product_s8s8<Sum::kMore>(a, q.high[step], cores_after(high, step * 2 * kCoreDepth));
        product_u8s8<Sum::kMore>(b, q.low[step], cores_after(high, step * 2 * kCoreDepth));
    }
    products_commit();
    products_wait<0>();
    products_seen(a);
    products_seen(b);
    times_256(a);
    times_256(b);
    products_begin();
#pragma unroll
    for (uint32_t step = 0; step < kHeadDim / 32; ++step) {
        product_s8u8<Sum::kMore>(a, q.high[step], cores_after(low, step * 2 * kCoreDepth));
        product_u8u8<Sum::kMore>(b, q.low[step], cores_after(low, step * 2 * kCoreDepth));
    }
    products_commit();
    products_wait<0>();
    products_seen(a);
    products_seen(b);
#pragma unroll
    for (uint32_t tile = 0; tile < 8; ++tile) {
        const float2 scale = *reinterpret_cast<const float2*>(chunk.k_scale + tile * 8 + threadIdx.x % 4 * 2);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const float sum =
                __fmaf_rn(256.0F, static_cast<float>(a[tile * 4 + i]), static_cast<float>(b[tile * 4 + i]));
            u[i / 2][tile][i % 2] = __fmul_rn(sum, i % 2 == 0 ? scale.x : scale.y);
        }
    }
}

// Σ weight · v over a chunk, of 64 dimensions, joins the outputs.
__device__ void add_values(const WeightPlanes& w, const uint8_t* high_plane, const uint8_t* low_plane,
                           const Merge (&merge)[2], float (&out)[32]) {
    const uint64_t high = cores_at(high_plane, kCoreDepth, kCoreColumns);
    const uint64_t low = cores_at(low_plane, kCoreDepth, kCoreColumns);
    const uint64_t high2 = cores_after(high, 2 * kCoreDepth);
    const uint64_t low2 = cores_after(low, 2 * kCoreDepth);
    int32_t a[32] = {}, b[32] = {};
    products_begin();
    product_u8s8<Sum::kNew>(a, w.high[0], high);
    product_u8s8<Sum::kMore>(a, w.high[1], high2);
    product_u8u8<Sum::kNew>(b, w.low[0], low);
    product_u8u8<Sum::kMore>(b, w.low[1], low2);
    products_commit();
    products_wait<0>();
    products_seen(a);
    products_seen(b);
    times_256(a);
    products_begin();
    product_u8u8<Sum::kMore>(a, w.high[0], low);
    product_u8u8<Sum::kMore>(a, w.high[1], low2);
    product_u8s8<Sum::kMore>(a, w.low[0], high);
    product_u8s8<Sum::kMore>(a, w.low[1], high2);
    products_commit();
    products_wait<0>();
    products_seen(a);
#pragma unroll
    for (uint32_t i = 0; i < 32; ++i) {
        const auto sum = static_cast<int32_t>(static_cast<uint32_t>(a[i]) * 256U + static_cast<uint32_t>(b[i]));
        const Merge& by = merge[i / 2 % 2];
        out[i] = __fmaf_rn(static_cast<float>(sum), by.unit, __fmul_rn(out[i], by.al));
    }
}

// The work of a warpgroup of queries [first_query, end_query) of the task's rows; the block has `count` chunks.
template <uint32_t kHeadDim>
__device__ void attend(Shared<kHeadDim>& shared, const Attention& args, const AttentionTask& task, uint32_t kv_head,
                       uint32_t count) {
    const Sequences& s = args.sequences;
    const uint32_t group = s.heads / s.kv_heads;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t first_query = task.first_query + threadIdx.x / kGroupThreads * kQueries;
    const uint32_t end_query = min(first_query + kQueries, task.end_query);
    Row rows[2];
    const int16_t* queries[2] = {};
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t query = first_query + threadIdx.x % kGroupThreads / 32 * 16 + i * 8 + lane / 4;
        if (query >= end_query) continue;
        rows[i].row = task.first_row + query / group;
        rows[i].head = kv_head * group + query % group;
        rows[i].visible = s.position[rows[i].row] + 1;
        const size_t at = static_cast<size_t>(rows[i].row) * s.heads + rows[i].head;
        rows[i].cq = args.cq[at];
        queries[i] = args.q16 + at * kHeadDim;
    }
    Queries<kHeadDim> q;
    load_query_planes<kHeadDim>(queries, q);
    uint32_t own = 0;
    uint32_t least_visible = 0;
    if (first_query < end_query) {
        own = s.position[task.first_row + (end_query - 1) / group] / kBlockTokens + 1;
        least_visible = s.position[task.first_row + first_query / group] + 1;
    }

    float out[kHeadDim / 64][32] = {};
    for (uint32_t chunk = 0; chunk < own; ++chunk) {
        wait_for_bytes(shared.full[chunk % kRing], chunk / kRing % 2);
        __syncwarp();
        const Planes<kHeadDim>& now = shared.chunk[chunk % kRing];
        const uint32_t first_key = chunk * kBlockTokens;
        float u[2][8][2];
        scores(q, now, u);
        Merge merge[2];
        if (first_key + kBlockTokens <= least_visible) {
            merge[0] = weigh<false>(u[0], rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<false>(u[1], rows[1], first_key, now.v_scale, args);
        } else {
            merge[0] = weigh<true>(u[0], rows[0], first_key, now.v_scale, args);
            merge[1] = weigh<true>(u[1], rows[1], first_key, now.v_scale, args);
        }
        WeightPlanes w;
        planes(u[0], u[1], w);
#pragma unroll
        for (uint32_t i = 0; i < kHeadDim / 64; ++i) {
            add_values(w, now.v_high[i][0][0], now.v_low[i][0][0], merge, out[i]);
        }
        __syncwarp();
        if (lane == 0) arrive(shared.empty[chunk % kRing]);
    }
    for (uint32_t chunk = own; chunk < count; ++chunk) {
        wait_for_bytes(shared.full[chunk % kRing], chunk / kRing % 2);
        __syncwarp();
        if (lane == 0) arrive(shared.empty[chunk % kRing]);
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        if (rows[i].visible == 0) continue;
        const float factor = __fdiv_rn(kWeightScale, rows[i].sum);
        float* to = args.out + (static_cast<size_t>(rows[i].row) * s.heads + rows[i].head) * kHeadDim + lane % 4 * 2;
#pragma unroll
        for (uint32_t tile = 0; tile < kHeadDim / 8; ++tile) {
            const float* from = out[tile / 8] + tile % 8 * 4 + i * 2;
            *reinterpret_cast<float2*>(to + tile * 8) = {__fmul_rn(from[0], factor), __fmul_rn(from[1], factor)};
        }
    }
}

#endif

template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kThreads<kHeadDim>, 1) attention_wide_kernel([[maybe_unused]] Attention args) {
#if defined(DW_WARPGROUPS)
    extern __shared__ __align__(128) uint8_t memory[];
    auto& shared = *reinterpret_cast<Shared<kHeadDim>*>(memory);
    const Sequences& s = args.sequences;
    const AttentionTask task = args.task[blockIdx.y];
    const uint32_t kv_head = blockIdx.x;
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < kRing; ++i) {
            make_barrier(shared.full[i], kGroupThreads / 32);
            make_barrier(shared.empty[i], kConsumers<kHeadDim> * kGroupThreads / 32);
        }
    }
    __syncthreads();
    const uint32_t last_row = task.first_row + (task.end_query - 1) / (s.heads / s.kv_heads);
    const uint32_t count = s.position[last_row] / kBlockTokens + 1;
    if (threadIdx.x / kGroupThreads == kConsumers<kHeadDim>) {
        leave_registers<56>();
        const size_t offset = (static_cast<size_t>(s.layer) * s.kv_heads + kv_head) * kHeadBytes<kHeadDim>;
        read_chunks(shared, s.blocks + s.table[task.first_row], offset, count);
    } else {
        take_registers<kConsumers<kHeadDim> == 3 ? 152 : 224>();
        attend(shared, args, task, kv_head, count);
    }
#endif
}

template <uint32_t kHeadDim>
cudaError_t launch(cudaStream_t stream, const Attention& args) {
    constexpr size_t kShared = sizeof(Shared<kHeadDim>);
    const auto kernel = attention_wide_kernel<kHeadDim>;
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    // Heads first: the tasks that see most begin first.
    const dim3 grid(args.sequences.kv_heads, args.tasks);
    kernel<<<grid, kThreads<kHeadDim>, kShared, stream>>>(args);
    return cudaGetLastError();
}

}  // namespace

cudaError_t attention_wide(cudaStream_t stream, const Attention& args) {
    return args.sequences.head_dim == 64 ? launch<64>(stream, args) : launch<128>(stream, args);
}

}  // namespace driftwood::compute::cuda
