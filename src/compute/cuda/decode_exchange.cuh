// What blocks of one kernel tell each other: a word of data and a tag in 64 bits, written and read at once, in the
// card's L2. A reader asks until the tag is the one it waits for; that is all the synchronising there is. A word is
// written once per layer, with a tag that no earlier use had. Nobody overwrites what others still have to read: a block
// reads words only for words that it then writes itself, and between two writes of a word lie phases whose inputs are
// complete only when all of those are there. A block that has none to write in a phase must not read either: it might
// come when the next layer's words are there, and wait for ever.
#pragma once

#include <cstdint>

#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

constexpr uint32_t kMostLooks = 1U << 25;  // many seconds: a block that is not there will not come

__device__ inline uint64_t tagged(uint32_t bits, uint32_t tag) { return static_cast<uint64_t>(tag) << 32 | bits; }

__device__ inline void publish(uint64_t* to, uint32_t bits, uint32_t tag) {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(tagged(bits, tag)) : "memory");
}
__device__ inline void publish(uint64_t* to, float value, uint32_t tag) { publish(to, __float_as_uint(value), tag); }

// Two words side by side, from a multiple of 16 bytes on; only each by itself is written at once.
__device__ inline void publish(uint64_t* to, uint32_t first, uint32_t second, uint32_t tag) {
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(tagged(first, tag)),
                 "l"(tagged(second, tag))
                 : "memory");
}

__device__ inline uint64_t look(const uint64_t* from) {
    uint64_t word;
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
    return word;
}

// Asks for words at(0) … at(kCount - 1) of each lane; where that is null, 0 is there.
template <uint32_t kCount, class At>
__device__ void ask(uint32_t tag, const At& at, uint64_t (&word)[kCount]) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
        const uint64_t* from = at(i);
        word[i] = from != nullptr ? look(from) : tagged(0, tag);
    }
}

// Whether all of a warp's words are there.
template <uint32_t kCount>
__device__ bool are_there(uint32_t tag, const uint64_t (&word)[kCount]) {
    bool there = true;
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) there &= static_cast<uint32_t>(word[i] >> 32) == tag;
    return __all_sync(kAllLanes, there);
}

// All lanes of a warp: waits for words at(0) … at(kCount - 1) of each lane; 0 where that is null. With kOneFirst one
// lane asks for one word until it is there, and only then all ask for all: what many warps want would otherwise be
// asked for in vain too often.
template <bool kOneFirst, uint32_t kCount, class At>
__device__ void fetch(uint32_t tag, const At& at, uint32_t (&bits)[kCount]) {
    uint32_t looks = 0;
    const uint64_t* first = at(0);
    if (kOneFirst && threadIdx.x % 32 == 0 && first != nullptr) {
        while (static_cast<uint32_t>(look(first) >> 32) != tag) {
            if (++looks > kMostLooks) __trap();
        }
    }
    __syncwarp();
    uint64_t word[kCount];
    for (;; ++looks) {
        ask(tag, at, word);
        if (are_there(tag, word)) break;
        if (looks > kMostLooks) __trap();
    }
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) bits[i] = static_cast<uint32_t>(word[i]);
}

}  // namespace driftwood::compute::cuda
