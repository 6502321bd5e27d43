// Rule 7 inside the persistent kernel: chunks of KV heads side by side over all blocks, in two groups of warps each;
// then every 32 dimensions of a head are merged by one warp somewhere on the card.
#pragma once

#include "compute/cuda/attention_split.cuh"
#include "compute/cuda/decode_linear.cuh"
#include "compute/cuda/decode_step.h"
#include "compute/step.h"

namespace driftwood::compute::cuda {

constexpr uint32_t kChunkGroups = 2;
constexpr uint32_t kGroupWarps = kMultipliers / kChunkGroups;
constexpr uint32_t kMostChunkUnits = 256;  // chunks of heads of one block
constexpr uint32_t kMergeLoads = 24;       // chunks whose sums are on their way together
constexpr uint32_t kMergeStep = 8;         // of them merged without a branch

// A chunk of a KV head that the block attends to: where it begins in layer 0.
struct ChunkUnit {
    uint8_t* head;
    uint32_t chunk;
    uint32_t kv_head;
};

// The block's units of a step, and the token's angles, by lane; one warp's work. The table of blocks is in memory of
// the host, which is far away.
template <uint32_t kHeadDim>
__device__ uint32_t find_units(const DecodeStep& args, ChunkUnit* unit, Angles<kHeadDim / 64>* angles) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t all_units = (args.position / kBlockTokens + 1) * args.kv_heads;
    const uint32_t units = (all_units + gridDim.x - 1 - blockIdx.x) / gridDim.x;
    for (uint32_t i = lane; i < units; i += 32) {
        const uint32_t number = blockIdx.x + i * gridDim.x;
        const uint32_t chunk = number / args.kv_heads;
        const uint32_t kv_head = number % args.kv_heads;
        unit[i] = {args.block[chunk] + kv_head * kHeadBytes<kHeadDim>, chunk, kv_head};
    }
    angles[lane] = load_angles<kHeadDim / 64>(args.cosine, args.sine, kHeadDim / 2, args.position);
    return units;
}

// That warp tells those that multiply.
constexpr uint32_t kUnitThreads = kMultiplyThreads + 32;
__device__ inline void units_found() { asm volatile("bar.arrive 4, %0;" ::"n"(kUnitThreads) : "memory"); }
__device__ inline void wait_for_units() { asm volatile("bar.sync 4, %0;" ::"n"(kUnitThreads) : "memory"); }

template <uint32_t kHeadDim>
struct AttentionScratch {
    SplitExchange<kGroupWarps> exchange[kChunkGroups];
    Turned<kHeadDim> turned[kChunkGroups];
};

// A layer's attention of one warp. Nothing of it stays in registers between layers, where products need them.
template <uint32_t kHeadDim>
struct ChunkWalk {
    const DecodeStep& args;
    AttentionScratch<kHeadDim>& scratch;
    Chunk<kHeadDim>* chunks;              // of each group of warps
    const ChunkUnit* unit;                // [units]
    const Angles<kHeadDim / 64>* angles;  // of the token, by lane
    uint32_t units, group, group_of_warps, warp_of_group;

    __device__ void sync() const {
        asm volatile("bar.sync %0, %1;" ::"r"(2 + group_of_warps), "n"(kGroupWarps * 32) : "memory");
    }
    __device__ uint8_t* head(uint32_t i, uint32_t layer) const {
        return unit[i].head + static_cast<size_t>(layer * args.kv_heads) * kHeadBytes<kHeadDim>;
    }
    // The group's threads fetch a unit's chunk; a unit that there is not is none.
    __device__ void load(uint32_t i, uint32_t layer) const {
        if (i < units && layer < args.layers) {
            load_chunk(chunks[group_of_warps], head(i, layer), warp_of_group * 32 + threadIdx.x % 32, kGroupWarps * 32);
        }
        cp_async_commit();
    }

    // The group's queries turned, and where the chunk has the step's own token, its key and value.
    __device__ void turn(const Worker& w, uint32_t i, uint32_t layer, bool own_chunk, uint32_t tag) const {
        constexpr uint32_t kPairs = kHeadDim / 64;
        const uint32_t kv_head = unit[i].kv_head;
        const Angles<kPairs> turns = angles[w.lane];
        for (uint32_t h = warp_of_group; h < group + (own_chunk ? 2 : 0); h += kGroupWarps) {
            const HeadOf of = h < group ? HeadOf::kQuery : h == group ? HeadOf::kKey : HeadOf::kValue;
            const uint32_t row = of == HeadOf::kQuery ? kv_head * group + h
                                 : of == HeadOf::kKey ? args.heads + kv_head
                                                      : args.heads + args.kv_heads + kv_head;
            const uint64_t* from = args.exchange.qkv + row * kHeadDim;
            uint32_t bits[kPairs * 2];
            fetch<false>(
                tag, [&](uint32_t k) { return from + pair_dim(args.pairs, kHeadDim / 2, k / 2 * 32 + w.lane, k % 2); },
                bits);
            float value[kPairs][2];
#pragma unroll
            for (uint32_t k = 0; k < kPairs * 2; ++k) value[k / 2][k % 2] = __uint_as_float(bits[k]);
            const auto made = turn_head_row<kPairs>(value, turns, of);
            if (of == HeadOf::kQuery) {
                keep_query(scratch.turned[group_of_warps], h, args.pairs, made, args.query_scale);
            } else {
                Chunk<kHeadDim>& chunk = chunks[group_of_warps];
                keep_own(chunk, chunk, head(i, layer), args.pairs, made, of, args.position % kBlockTokens);
            }
            w.note(made.finite, fault_code(layer, of == HeadOf::kQuery ? Place::kQuery
                                                  : of == HeadOf::kKey ? Place::kKey
                                                                       : Place::kValue));
        }
    }

    // A unit whose queries and chunk are there.
    template <uint32_t kEights>
    __device__ void attend_unit(const Worker& w, uint32_t i, uint32_t layer, uint32_t tag) const {
        const Turned<kHeadDim>& turned = scratch.turned[group_of_warps];
        const uint32_t index = unit[i].chunk;
        const size_t first = static_cast<size_t>(unit[i].kv_head * group) * args.max_chunks + index;
        const size_t kind = static_cast<size_t>(args.heads) * args.max_chunks;
        attend_chunk<kHeadDim, kGroupWarps, kEights>(
            chunks[group_of_warps], scratch.exchange[group_of_warps], turned.q[0], turned.cq, group,
            args.position + 1 - index * kBlockTokens, warp_of_group, [&] { sync(); },
            [&](uint32_t h, const ChunkPart& part, bool is_in_range) {
                uint64_t* to = args.exchange.part + first + static_cast<size_t>(h) * args.max_chunks;
                publish(to, part.m, tag);
                publish(to + kind, static_cast<uint32_t>(part.l), tag);
                publish(to + 2 * kind, static_cast<uint32_t>(part.exponent), tag);
                if (!is_in_range) atomicMin(w.fault, fault_code(layer, Place::kAttention));
            },
            [&](uint32_t h, uint32_t dim, int2 sums) {
                uint64_t* to =
                    args.exchange.part_sum + (first + static_cast<size_t>(h) * args.max_chunks) * kHeadDim + dim;
                publish(to, static_cast<uint32_t>(sums.x), static_cast<uint32_t>(sums.y), tag);
            });
    }

    // All of the block's units of a layer; then the next layer's first ones are on their way.
    __device__ void attend(const Worker& w, uint32_t layer, uint32_t tag) const {
        for (uint32_t i = group_of_warps; i < units; i += kChunkGroups) {
            const bool own_chunk = unit[i].chunk == args.position / kBlockTokens;
            if (own_chunk) {
                cp_async_wait<0>();
                sync();
            }
            turn(w, i, layer, own_chunk, tag);
            cp_async_wait<0>();
            sync();
            if (group > 8) {
                attend_unit<2>(w, i, layer, tag);
            } else {
                attend_unit<1>(w, i, layer, tag);
            }
            sync();
            const bool more = i + kChunkGroups < units;
            load(more ? i + kChunkGroups : group_of_warps, more ? layer : layer + 1);
        }
    }
};

// 32 dimensions of one head, by one warp, chunks as they become known.
template <uint32_t kHeadDim>
__device__ void merge_dims(const DecodeStep& args, MergeFactors* factors, uint32_t head, uint32_t first_dim,
                           uint32_t tag) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t chunks = args.position / kBlockTokens + 1;
    const size_t kind = static_cast<size_t>(args.heads) * args.max_chunks;
    const size_t first = static_cast<size_t>(head) * args.max_chunks;
    float running_max = kFirstMax;
    float sum = 0.0F;
    float out = 0.0F;
    for (uint32_t begin = 0; begin < chunks; begin += kMergeLoads) {
        const uint32_t count = min(kMergeLoads, chunks - begin);
        const uint64_t* parts = args.exchange.part + first + begin + lane;
        const uint64_t* sums = args.exchange.part_sum + (first + begin) * kHeadDim + first_dim + lane;
        uint32_t bits[3];
        fetch<false>(
            tag, [&](uint32_t i) { return lane < count ? parts + i * kind : nullptr; }, bits);
        uint64_t word[kMergeLoads];
        for (uint32_t looks = 0;; ++looks) {
            ask(
                tag, [&](uint32_t j) { return j < count ? sums + j * kHeadDim : nullptr; }, word);
            if (looks == 0) {  // while sums are on their way
                ChunkPart part = {kFirstMax, 0, INT32_MIN};
                if (lane < count) {
                    part = {__uint_as_float(bits[0]), static_cast<int32_t>(bits[1]), static_cast<int32_t>(bits[2])};
                }
                MergeFactors own = merge_factors(part, running_max);
                // Beyond the last chunk 0 · -0 is added to what is there, which changes no bit.
                if (lane >= count) own = {1.0F, -0.0F, 0.0F, -0.0F};
                if (lane < kMergeLoads) factors[lane] = own;
                __syncwarp();
            }
            if (are_there(tag, word)) break;
            if (looks > kMostLooks) __trap();
        }
#pragma unroll
        for (uint32_t j = 0; j < kMergeLoads; ++j) {
            if (j % kMergeStep == 0 && j >= count) break;
            const MergeFactors f = factors[j];
            const auto total = static_cast<float>(static_cast<int32_t>(word[j]));
            sum = __fmaf_rn(f.l, f.be, __fmul_rn(sum, f.al));
            out = __fmaf_rn(total, f.unit, __fmul_rn(out, f.al));
        }
        __syncwarp();
    }
    const float value = __fmul_rn(out, __fdiv_rn(kWeightScale, sum));
    publish(args.exchange.attended + head * kHeadDim + first_dim + lane, value, tag);
}

// The block's share of a layer's merges.
template <uint32_t kHeadDim>
__device__ void merge_heads(const DecodeStep& args, MergeFactors* factors, uint32_t tag) {
    constexpr uint32_t kPieces = kHeadDim / 32;
    for (uint32_t i = blockIdx.x; i < args.heads * kPieces; i += gridDim.x) {
        merge_dims<kHeadDim>(args, factors, i / kPieces, i % kPieces * 32, tag);
    }
}

}  // namespace driftwood::compute::cuda
