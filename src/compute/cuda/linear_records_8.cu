// Linear layers over records with activations of 8 bits (A256).
#include "compute/cuda/linear_records.cuh"

namespace driftwood::compute::cuda {

cudaError_t linear_records_8(cudaStream_t stream, const Linear& args) {
    constexpr auto kKind = ActivationKind::kA256;
    switch (args.product[0].matrix.type) {
        case WeightType::kQ4_1: return linear_records_of<WeightType::kQ4_1, kKind>(stream, args);
        case WeightType::kQ5_0: return linear_records_of<WeightType::kQ5_0, kKind>(stream, args);
        case WeightType::kQ5_1: return linear_records_of<WeightType::kQ5_1, kKind>(stream, args);
        case WeightType::kQ4_K: return linear_records_of<WeightType::kQ4_K, kKind>(stream, args);
        case WeightType::kQ5_K: return linear_records_of<WeightType::kQ5_K, kKind>(stream, args);
        case WeightType::kQ6_K: return linear_records_of<WeightType::kQ6_K, kKind>(stream, args);
        case WeightType::kQ4S: return linear_records_of<WeightType::kQ4S, kKind>(stream, args);
        default: return cudaErrorInvalidValue;
    }
}

}  // namespace driftwood::compute::cuda
