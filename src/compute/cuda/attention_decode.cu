// Rule 7 for one query token: chunks side by side, a block for each chunk and KV head, then one merge in the contract's
// order. The first kernel leaves, for every head and chunk, m, l, the weights' unit and the integer sums; the second
// finds the running maxima of all chunks at once, so that the chain over chunks is one fma and one product a step.
#include "compute/cuda/attention_split.cuh"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/layout.h"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kMergeLoads = 32;     // chunks whose sums are on their way together
constexpr uint32_t kMergeChunks = 1024;  // whose factors fit into shared memory at once

static_assert(sizeof(ChunkPart) == kAttentionPartBytes);

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
            keep_query(turned, i, rope.pairs, made, rope.query_scale);
        } else {
            keep_own(chunk, chunk, block, rope.pairs, made, of, position % kBlockTokens);
        }
        if (!made.finite && lane == 0) {
            atomicMin(args.fault + row, of == HeadOf::kQuery ? rope.q_code
                                        : of == HeadOf::kKey ? rope.k_code
                                                             : rope.v_code);
        }
    }
}

template <uint32_t kHeadDim, uint32_t kEights>
__global__ void __launch_bounds__(kWarps * 32) attention_split_kernel(Attention args) {
    extern __shared__ __align__(16) uint8_t shared[];
    auto& chunk = *reinterpret_cast<Chunk<kHeadDim>*>(shared);
    __shared__ SplitExchange<kWarps> exchange;
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
    cp_async_wait<0>();
    __syncthreads();

    const size_t first_part = (static_cast<size_t>(blockIdx.z) * s.heads + kv_head * group) * args.max_chunks + index;
    attend_chunk<kHeadDim, kWarps, kEights>(
        chunk, exchange, q16, head_cq, group, visible - index * kBlockTokens, threadIdx.x / 32, [] { __syncthreads(); },
        [&](uint32_t head, const ChunkPart& part, bool is_in_range) {
            static_cast<ChunkPart*>(args.part)[first_part + static_cast<size_t>(head) * args.max_chunks] = part;
            if (!is_in_range) atomicMin(args.fault + row, args.code);
        },
        [&](uint32_t head, uint32_t dim, int2 sums) {
            int32_t* to = args.part_sum + (first_part + static_cast<size_t>(head) * args.max_chunks) * kHeadDim;
            *reinterpret_cast<int2*>(to + dim) = sums;
        });
}

// A thread per dimension of one head of one row.
template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kHeadDim) attention_merge_kernel(Attention args) {
    __shared__ MergeFactors factors[kMergeChunks];
    wait_for_previous();
    const Sequences& s = args.sequences;
    const uint32_t row = args.decode_row[args.first_decode + blockIdx.y];
    const uint32_t head = blockIdx.x;
    const uint32_t chunks = s.position[row] / kBlockTokens + 1;
    const size_t first = (static_cast<size_t>(blockIdx.y) * s.heads + head) * args.max_chunks;
    const ChunkPart* parts = static_cast<const ChunkPart*>(args.part) + first;
    const int32_t* sums = args.part_sum + first * kHeadDim + threadIdx.x;

    float running_max = kFirstMax;
    float sum = 0.0F;
    float out = 0.0F;
    for (uint32_t begin = 0; begin < chunks; begin += kMergeChunks) {
        const uint32_t count = min(kMergeChunks, chunks - begin);
        if (threadIdx.x < 32) {
            for (uint32_t i = threadIdx.x; i - threadIdx.x < count; i += 32) {
                ChunkPart part = {kFirstMax, 0, INT32_MIN};
                if (i < count) part = parts[begin + i];
                const MergeFactors made = merge_factors(part, running_max);
                if (i < count) factors[i] = made;
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
                const MergeFactors f = factors[i + j];
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

template <uint32_t kHeadDim, uint32_t kEights>
cudaError_t launch(cudaStream_t stream, const Attention& args) {
    constexpr size_t kShared = sizeof(Chunk<kHeadDim>);
    const cudaError_t allowed = cudaFuncSetAttribute(attention_split_kernel<kHeadDim, kEights>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, int{kShared});
    if (allowed != cudaSuccess) return allowed;
    const Sequences& s = args.sequences;
    const dim3 split(args.max_chunks, s.kv_heads, args.decode_rows);
    const cudaError_t launched =
        launch_overlapping(attention_split_kernel<kHeadDim, kEights>, split, kWarps * 32, kShared, stream, args);
    if (launched != cudaSuccess) return launched;
    return launch_overlapping(attention_merge_kernel<kHeadDim>, dim3(s.heads, args.decode_rows), kHeadDim, 0, stream,
                              args);
}

template <uint32_t kHeadDim>
cudaError_t launch_for_group(cudaStream_t stream, const Attention& args) {
    const bool eight = args.sequences.heads / args.sequences.kv_heads <= 8;
    return eight ? launch<kHeadDim, 1>(stream, args) : launch<kHeadDim, 2>(stream, args);
}

}  // namespace

cudaError_t attention_decode(cudaStream_t stream, const Attention& args) {
    const Sequences& s = args.sequences;
    if (many_decodes(args.decode_rows, s.kv_heads)) return attention_many(stream, args);
    return s.head_dim == 64 ? launch_for_group<64>(stream, args) : launch_for_group<128>(stream, args);
}

}  // namespace driftwood::compute::cuda
