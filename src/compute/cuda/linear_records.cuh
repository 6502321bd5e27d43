// Which kernel multiplies records: by type, and by how many columns of activations there are.
#pragma once

#include "compute/cuda/linear_records_large.cuh"
#include "compute/cuda/linear_records_small.cuh"

namespace driftwood::compute::cuda {

template <WeightType kType, ActivationKind kKind>
cudaError_t linear_records_of(cudaStream_t stream, const Linear& args) {
    const uint32_t columns = args.tokens * kDigits<kKind>;
    if (args.norm.x != nullptr) return launch_records_small<kType, kKind, 8, true>(stream, args);
    if (columns <= 8) return launch_records_small<kType, kKind, 8, false>(stream, args);
    if (columns <= 32) return launch_records_small<kType, kKind, 32, false>(stream, args);
    return linear_records_large<kType, kKind>(stream, args);
}

}  // namespace driftwood::compute::cuda
