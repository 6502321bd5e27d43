// Products by a warpgroup (wgmma, compute capability 9.0 alone): 64 rows of A from registers, each warp's 16 as
// layout.h and mma.cuh have them, times 64 columns of B in shared memory, 32 deep; they run beside the arithmetic of
// the warps that asked for them. B lies in cores of 8 columns by 16 bytes (layout.h). Sums: lane 4 g + t of a warp has
// of each 8 columns (row g, columns 2t and 2t + 1), (row g + 8, the same).
//
// In order: products_begin() after registers were written, a product, products_commit(), products_wait<pending>() and
// products_seen() of the sums before they are read.
#pragma once

#include <cstdint>

#include "compute/cuda/mma.cuh"

// The instructions are those of one chip, not of its successors.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DW_WARPGROUPS 1
#endif

namespace driftwood::compute::cuda {

// Where B is: `core_depth` bytes from a core to the next along the sum, `core_columns` to that of the next 8 columns.
__device__ inline uint64_t cores_at(const void* shared, uint32_t core_depth, uint32_t core_columns) {
    return static_cast<uint64_t>(shared_address(shared) >> 4 & 0x3FFFU) | static_cast<uint64_t>(core_depth >> 4) << 16 |
           static_cast<uint64_t>(core_columns >> 4) << 32;
}
// The same some bytes further.
__device__ inline uint64_t cores_after(uint64_t cores, uint32_t bytes) { return cores + (bytes >> 4); }

#if defined(DW_WARPGROUPS)

__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <uint32_t kPending>
__device__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <uint32_t kCount>
__device__ void products_seen(int32_t (&sum)[kCount]) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) asm volatile("" : "+r"(sum[i])::"memory");
}

#define DW_SUM4(i) "+r"(sum[i]), "+r"(sum[i + 1]), "+r"(sum[i + 2]), "+r"(sum[i + 3])
#define DW_SUM16(i) DW_SUM4(i), DW_SUM4(i + 4), DW_SUM4(i + 8), DW_SUM4(i + 12)
#define DW_PRODUCT(name, a_type, b_type)                                                                             \
    template <Sum kSum>                                                                                              \
    __device__ inline void name(int32_t(&sum)[32], const uint32_t(&a)[4], uint64_t b) {                              \
        asm volatile(                                                                                                \
            "{\n"                                                                                                    \
            ".reg .pred more;\n"                                                                                     \
            "setp.ne.b32 more, %37, 0;\n"                                                                            \
            "wgmma.mma_async.sync.aligned.m64n64k32.s32." a_type "." b_type                                          \
            " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
            "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, more;\n"                  \
            "}\n"                                                                                                    \
            : DW_SUM16(0), DW_SUM16(16)                                                                              \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kSum == Sum::kMore ? 1 : 0));                  \
    }

// sum = A · B, or sum + A · B, of 64 columns, A and B in bytes, signed or not.
enum class Sum : uint8_t { kNew, kMore };
DW_PRODUCT(product_s8s8, "s8", "s8")
DW_PRODUCT(product_s8u8, "s8", "u8")
DW_PRODUCT(product_u8s8, "u8", "s8")
DW_PRODUCT(product_u8u8, "u8", "u8")

#undef DW_PRODUCT

// Of 32 columns.
template <Sum kSum>
__device__ void product_s8s8(int32_t (&sum)[16], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n"
        ".reg .pred more;\n"
        "setp.ne.b32 more, %21, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k32.s32.s8.s8 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, "
        "%14, %15}, {%16, %17, %18, %19}, %20, more;\n"
        "}\n"
        : DW_SUM16(0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kSum == Sum::kMore ? 1 : 0));
}

// Of 16 columns.
template <Sum kSum>
__device__ void product_s8s8(int32_t (&sum)[8], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n"
        ".reg .pred more;\n"
        "setp.ne.b32 more, %13, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n16k32.s32.s8.s8 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, "
        "more;\n"
        "}\n"
        : DW_SUM4(0), DW_SUM4(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kSum == Sum::kMore ? 1 : 0));
}

#undef DW_SUM16
#undef DW_SUM4

// All warps of a warpgroup: its registers a thread from here on, out of what a block has.
template <uint32_t kCount>
__device__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <uint32_t kCount>
__device__ void leave_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

#endif

// What this thread wrote to shared memory is seen by products asked for after the barrier that follows.
__device__ inline void publish_to_products() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Of a barrier at which warps arrive.
__device__ inline void make_barrier([[maybe_unused]] CopyBarrier& barrier, [[maybe_unused]] uint32_t arrivals) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ inline void arrive([[maybe_unused]] CopyBarrier& barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#endif
}

}  // namespace driftwood::compute::cuda
