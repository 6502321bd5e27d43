// What a block of the persistent kernel tells the host: how many of its tiles of logits are written, and its end.
#pragma once

#include "compute/cuda/decode_ring.cuh"
#include "compute/cuda/decode_step.h"

namespace driftwood::compute::cuda {

// Of a warp, logits that it has written: they are there, for the host too, before they are counted.
__device__ inline void count_written(uint32_t* written, bool wrote) {
    if (wrote) asm volatile("fence.acq_rel.sys;" ::: "memory");
    __syncwarp();
    if (threadIdx.x % 32 != 0) return;
    asm volatile("red.release.cta.shared.add.u32 [%0], 1;" ::"r"(shared_address(written)) : "memory");
}

__device__ inline void write_note(const DecodeStep& args, uint32_t tiles) {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
    asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(&args.note[blockIdx.x].word),
                 "l"(static_cast<uint64_t>(args.step) << 32 | tiles)
                 : "memory");
}

// Warps count a round of logits when the next one is there and what they wrote has had time to arrive, and the last
// one at their end. The warps meet between two counts, so that none is counted twice before all are once.
__device__ inline void tell_host(const DecodeStep& args, const uint32_t* written, const uint32_t* fault, uint32_t tiles,
                                 uint32_t round_tiles) {
    const uint32_t rounds = args.in_rounds ? max((tiles + round_tiles - 1) / round_tiles, 1U) : 1;
    for (uint32_t told = 0; told < rounds;) {
        uint32_t count = 0;
        asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(count) : "r"(shared_address(written)) : "memory");
        const uint32_t done = count / kMultipliers;
        if (done == told) {
            __nanosleep(200);
            continue;
        }
        told = done;
        if (told < rounds) write_note(args, told * round_tiles);
    }
    args.note[blockIdx.x].fault = *fault;
    write_note(args, tiles | kStepDone);
}

}  // namespace driftwood::compute::cuda
