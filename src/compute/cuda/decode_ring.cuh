// The rings of stages through which weights stream into shared memory: one lane fetches them in the order in which the
// warps that multiply will want them, as far ahead as there is room. A stage holds up to stage_units super-blocks of
// one tile of rows: records, or tiles and their scales. Stages go to two rings by turns, and half of the warps take
// each.
//
// Every warp waits for every stage of its ring and leaves it, also where it has nothing to do: a barrier tells only the
// parity of its phase, so a warp that skipped one could take an old phase for the next.
#pragma once

#include "compute/cuda/layout.h"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/mma.cuh"
#include "compute/cuda/records.cuh"

namespace driftwood::compute::cuda {

constexpr uint32_t kMultipliers = 16;  // warps
constexpr uint32_t kRings = 2;
constexpr uint32_t kRingWarps = kMultipliers / kRings;
constexpr uint32_t kStageWeights = 16384;   // where scales of tiles begin
constexpr uint32_t kMostUnitBytes = 18944;  // of the records of a stage
constexpr uint32_t kMostStages = 16;        // of both
constexpr uint32_t kStagesComing = 2;       // on their way at once

// Bytes of a super-block of a tile of rows, scales apart.
__host__ __device__ constexpr uint32_t unit_bytes(WeightType type, ActivationKind kind) {
    return in_tiles(type, kind) ? 8 * tile_bytes(type) : record_size(type);
}
// Of them in a stage: a power of two, so that they divide a ring's warps evenly.
__host__ __device__ constexpr uint32_t stage_units(uint32_t bytes) {
    return bytes <= kMostUnitBytes / 8 ? 8 : bytes <= kMostUnitBytes / 4 ? 4 : 2;
}
constexpr uint32_t stage_bytes(WeightType type, ActivationKind kind) {
    const uint32_t units = stage_units(unit_bytes(type, kind));
    if (in_tiles(type, kind)) return kStageWeights + units * kScaleRow * static_cast<uint32_t>(sizeof(uint16_t));
    return (units * unit_bytes(type, kind) + 127) / 128 * 128;
}

__device__ inline void make_stage_barrier(CopyBarrier& barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}

// The copy engine sees barriers made before this.
__device__ inline void show_barriers() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Weights are read once: they make room in L2 before anything else does.
__device__ inline void copy_once([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                                 [[maybe_unused]] uint32_t bytes, [[maybe_unused]] CopyBarrier& barrier,
                                 [[maybe_unused]] uint64_t policy) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], "
        "%4;" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(&barrier)), "l"(policy)
        : "memory");
#endif
}

struct Ring {
    uint8_t* stages;
    CopyBarrier* full;
    CopyBarrier* empty;
    uint32_t count;     // a multiple of kRings
    uint32_t bytes;     // of a stage
    uint32_t slot = 0;  // rings have every second one
    uint32_t phase = 0;

    __device__ void next(uint32_t step) {
        slot += step;
        if (slot < count) return;
        slot -= count;
        phase ^= 1;
    }
    // A warp that multiplies; of ring r it starts at slot r.
    __device__ const uint8_t* wait() {
        wait_for_bytes(full[slot], phase);
        return stages + slot * bytes;
    }
    __device__ void leave() {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&empty[slot])) : "memory");
        }
        next(kRings);
    }
};

// The lane that fetches, for both rings. It asks for a stage when all but the last kStagesComing - 1 are there: that
// keeps the memory busy, and what blocks ask each other does not wait behind many stages of weights.
struct RingFeeder {
    Ring ring;
    uint32_t coming = 0;                     // stages on their way
    uint32_t late_slot = 0, late_phase = 0;  // the one asked for first

    template <bool kRecords>
    __device__ void send(const TiledMatrix& matrix, uint32_t tile, uint64_t policy) {
        const bool tiles = !kRecords || in_tiles(matrix.type, matrix.kind);
        const uint32_t super_blocks = super_blocks_of(matrix.cols);
        const uint32_t unit = tiles ? 8 * tile_bytes(matrix.type) : record_size(matrix.type);
        const uint32_t most = stage_units(unit);
        for (uint32_t sb = 0; sb < super_blocks; sb += most) {
            const uint32_t units = min(most, super_blocks - sb);
            const size_t at = static_cast<size_t>(tile) * super_blocks + sb;
            const uint32_t scale_bytes = tiles ? units * kScaleRow * static_cast<uint32_t>(sizeof(uint16_t)) : 0;
            wait_for_bytes(ring.empty[ring.slot], ring.phase ^ 1);
            if (coming == kStagesComing) {
                wait_for_bytes(ring.full[late_slot], late_phase);
                if (++late_slot == ring.count) late_slot = 0, late_phase ^= 1;
            } else {
                ++coming;
            }
            expect_bytes(ring.full[ring.slot], units * unit + scale_bytes);
            uint8_t* stage = ring.stages + ring.slot * ring.bytes;
            copy_once(stage, matrix.tiles + at * unit, units * unit, ring.full[ring.slot], policy);
            if (tiles)
                copy_once(stage + kStageWeights, matrix.scales + at * kScaleRow, scale_bytes, ring.full[ring.slot],
                          policy);
            ring.next(1);
        }
    }
};

}  // namespace driftwood::compute::cuda
