// mma.sync.m16n8k32 over 8-bit integers: D = A · B + C, exact in 32 bits (sm_80 and later), and copies to shared memory
// that run beside the arithmetic. Lane 4 g + t of a warp holds of A the words of layout.h, of B (column g, rows 4t…)
// and (column g, rows 16 + 4t…), of C and D (row g, columns 2t and 2t + 1), (row g + 8, the same).
#pragma once

#include <cstdint>

namespace driftwood::compute::cuda {

#define DW_MMA(name, a_type, b_type)                                                               \
    __device__ inline void name(int32_t(&d)[4], const uint32_t(&a)[4], uint32_t b0, uint32_t b1) { \
        asm("mma.sync.aligned.m16n8k32.row.col.s32." a_type "." b_type                             \
            ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                 \
            : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                       \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                       \
    }
DW_MMA(mma_s8s8, "s8", "s8")
DW_MMA(mma_s8u8, "s8", "u8")
DW_MMA(mma_u8s8, "u8", "s8")
DW_MMA(mma_u8u8, "u8", "u8")
#undef DW_MMA

// The same with C apart.
__device__ inline void mma_s8s8_from(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                     const int32_t (&c)[4]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
}

// m16n8k16: of A the first two words of m16n8k32, of B the first.
__device__ inline void mma_s8s8_half(int32_t (&d)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a0), "r"(a1), "r"(b0));
}

// 16 bytes from global to shared memory; cp_async_wait<N> waits until at most N commits are under way.
__device__ inline void cp_async_16(void* shared, const void* global) {
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
__device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Copies of many bytes (multiples of 16) from global to shared memory by the copy engine, from compute capability 9.0
// on; before that by the thread itself. A CopyBarrier in shared memory counts them: one thread says how many bytes will
// come, all wait for the phase in which they have.
struct CopyBarrier {
    uint64_t state;
};

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void make_barrier([[maybe_unused]] CopyBarrier& barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(&barrier)) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ inline void expect_bytes([[maybe_unused]] CopyBarrier& barrier, [[maybe_unused]] uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
                 : "memory");
#endif
}

__device__ inline void copy_bulk(void* to, const void* from, uint32_t bytes, [[maybe_unused]] CopyBarrier& barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
#else
    for (uint32_t i = 0; i < bytes; i += 16) {
        cp_async_16(static_cast<uint8_t*>(to) + i, static_cast<const uint8_t*>(from) + i);
    }
#endif
}

// All threads of the block; the bytes are there when it returns.
__device__ inline void wait_for_bytes([[maybe_unused]] CopyBarrier& barrier, [[maybe_unused]] uint32_t phase) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again_%=:\n"
        "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra again_%=;\n"
        "}\n" ::"r"(shared_address(&barrier)),
        "r"(phase)
        : "memory");
#else
    cp_async_wait<1>();
    __syncthreads();
#endif
}

}  // namespace driftwood::compute::cuda
