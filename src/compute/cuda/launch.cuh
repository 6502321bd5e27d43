// Launches that may begin before the kernel ahead of them on the stream has ended (programmatic dependent launch, from
// compute capability 9.0 on). Every kernel launched this way calls wait_for_previous() before it reads what others
// write or writes anything; before that it may only fetch what never changes, the weights.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace driftwood::compute::cuda {

// All threads. Lets the next kernel of the stream come in as blocks of this one leave room, then waits until all
// earlier kernels have ended and their writes are seen.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// What the current card has of something; 0 when it cannot be asked.
inline uint32_t card_has(cudaDeviceAttr what) {
    int device = 0;
    int value = 0;
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&value, what, device) != cudaSuccess) return 0;
    return static_cast<uint32_t>(value);
}

inline bool overlaps_launches() {
    static const bool kOverlaps = [] {
        int device = 0;
        int major = 0;
        return cudaGetDevice(&device) == cudaSuccess &&
               cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
    }();
    return kOverlaps;
}

template <class... Parameters, class... Arguments>
cudaError_t launch_overlapping(void (*kernel)(Parameters...), dim3 grid, uint32_t threads, size_t shared,
                               cudaStream_t stream, const Arguments&... arguments) {
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = overlaps_launches() ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

}  // namespace driftwood::compute::cuda
