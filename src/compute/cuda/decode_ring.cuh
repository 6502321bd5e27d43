// The rings of stages through which weights stream into shared memory: one lane fetches them in the order in which the
// warps that multiply will want them, as far ahead as there is room. A stage holds up to stage_units super-blocks of
// one tile of rows, and their scales. Stages go to two rings by turns, and half of the warps take each.
//
// Every warp waits for every stage of its ring and leaves it, also where it has nothing to do: a barrier tells only the
// parity of its phase, so a warp that skipped one could take an old phase for the next.
#pragma once

#include "compute/cuda/layout.h"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/mma.cuh"

namespace driftwood::compute::cuda {

constexpr uint32_t kMultipliers = 16;  // warps
constexpr uint32_t kRings = 2;
constexpr uint32_t kRingWarps = kMultipliers / kRings;
constexpr uint32_t kStageWeights = 16384;
constexpr uint32_t kStageBytes = kStageWeights + kStageWeights / (8 * tile_bytes(WeightType::kQ4_0)) * kScaleRow * 2;
constexpr uint32_t kMostStages = 12;  // of both

__host__ __device__ constexpr uint32_t stage_units(WeightType type) { return kStageWeights / (8 * tile_bytes(type)); }

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
        return stages + slot * kStageBytes;
    }
    __device__ void leave() {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&empty[slot])) : "memory");
        }
        next(kRings);
    }
    // The lane that fetches, for both rings.
    __device__ void send(const TiledMatrix& matrix, uint32_t tile, uint64_t policy) {
        const uint32_t super_blocks = super_blocks_of(matrix.cols);
        const uint32_t unit_bytes = 8 * tile_bytes(matrix.type);
        const uint32_t most = stage_units(matrix.type);
        for (uint32_t sb = 0; sb < super_blocks; sb += most) {
            const uint32_t units = min(most, super_blocks - sb);
            const size_t at = static_cast<size_t>(tile) * super_blocks + sb;
            const uint32_t scale_bytes = units * kScaleRow * static_cast<uint32_t>(sizeof(uint16_t));
            wait_for_bytes(empty[slot], phase ^ 1);
            expect_bytes(full[slot], units * unit_bytes + scale_bytes);
            uint8_t* stage = stages + slot * kStageBytes;
            copy_once(stage, matrix.tiles + at * unit_bytes, units * unit_bytes, full[slot], policy);
            copy_once(stage + kStageWeights, matrix.scales + at * kScaleRow, scale_bytes, full[slot], policy);
            next(1);
        }
    }
};

}  // namespace driftwood::compute::cuda
