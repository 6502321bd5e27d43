// Rules 2, 4, 6 and 9 on the card: embedding rows, and the three ways in which activations are made.
#include "compute/cuda/embed.cuh"
#include "compute/cuda/kernels.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kQuantiseWarps = 4;

__device__ void note(const Quantise& args, uint32_t source_row, bool finite) {
    if (!finite) atomicMin(args.fault + source_row, args.code);
}

template <WeightType kType>
__global__ void embed_kernel(TiledMatrix matrix, const uint32_t* tokens, float* out) {
    wait_for_previous();
    const uint32_t col = blockIdx.y * kThreads + threadIdx.x;
    if (col >= matrix.cols) return;
    out[static_cast<size_t>(blockIdx.x) * matrix.cols + col] = embedded<kType>(matrix, tokens[blockIdx.x], col);
}

// A block per row: each warp sums blocks of 256 values, then every thread adds them up in order.
template <ActivationKind kKind>
__global__ void norm_quantise_kernel(Quantise args, const float* x, const float* weight, float eps) {
    extern __shared__ float block_sum[];  // [blocks of 256]
    wait_for_previous();
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t source = args.source == nullptr ? blockIdx.x : args.source[blockIdx.x];
    const float* values = x + static_cast<size_t>(source) * args.cols;
    const uint32_t super_blocks = super_blocks_of(args.cols);
    float value[8];
    for (uint32_t block = warp; block < super_blocks; block += kWarps) {
        const float sum = block_of_squares(values, args.cols, block, value);
        if (lane == 0) block_sum[block] = sum;
    }
    __syncthreads();
    bool finite = true;
    const float factor = norm_factor(block_sum, args.cols, eps, finite);
    for (uint32_t block = warp; block < super_blocks; block += kWarps) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const uint32_t i = block * kSuperBlock + j * kGroup + lane;
            value[j] = i < args.cols ? __fmul_rn(__fmul_rn(values[i], factor), weight[i]) : 0.0F;
        }
        finite &= store_super_block<kKind>(args.out, blockIdx.x, block, super_blocks, value);
    }
    note(args, source, finite);
}

// A warp per super-block; Value(i) gives the value of index i of all inputs.
template <ActivationKind kKind, class Value>
__global__ void quantise_kernel(Quantise args, Value value) {
    wait_for_previous();
    const uint32_t super_blocks = super_blocks_of(args.cols);
    const uint32_t block = blockIdx.y * kQuantiseWarps + threadIdx.x / 32;
    if (block >= super_blocks) return;
    const uint32_t source = args.source == nullptr ? blockIdx.x : args.source[blockIdx.x];
    float x[8];
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t col = block * kSuperBlock + j * kGroup + threadIdx.x % 32;
        x[j] = col < args.cols ? value(static_cast<size_t>(source) * args.cols + col) : 0.0F;
    }
    note(args, source, store_super_block<kKind>(args.out, blockIdx.x, block, super_blocks, x));
}

struct Plain {
    const float* x;
    __device__ float operator()(size_t i) const { return x[i]; }
};

struct SiluTimes {
    const float* gate;
    const float* up;
    __device__ float operator()(size_t i) const { return __fmul_rn(silu(gate[i]), up[i]); }
};

template <class Value>
cudaError_t launch_quantise(cudaStream_t stream, const Quantise& args, Value value) {
    const dim3 grid(args.rows, (super_blocks_of(args.cols) + kQuantiseWarps - 1) / kQuantiseWarps);
    const auto kernel = args.kind == ActivationKind::kA32P   ? quantise_kernel<ActivationKind::kA32P, Value>
                        : args.kind == ActivationKind::kA256 ? quantise_kernel<ActivationKind::kA256, Value>
                                                             : quantise_kernel<ActivationKind::kA16, Value>;
    return launch_overlapping(kernel, grid, kQuantiseWarps * 32, 0, stream, args, value);
}

}  // namespace

cudaError_t embed(cudaStream_t stream, const TiledMatrix& matrix, const uint32_t* tokens, uint32_t rows, float* out) {
    if (!in_tiles(matrix)) return embed_records(stream, matrix, tokens, rows, out);
    const auto kernel =
        matrix.type == WeightType::kQ8_0 ? embed_kernel<WeightType::kQ8_0> : embed_kernel<WeightType::kQ4_0>;
    const dim3 grid(rows, (matrix.cols + kThreads - 1) / kThreads);
    return launch_overlapping(kernel, grid, kThreads, 0, stream, matrix, tokens, out);
}

cudaError_t norm_quantise(cudaStream_t stream, const Quantise& args, const float* x, const float* weight, float eps) {
    const size_t shared = super_blocks_of(args.cols) * sizeof(float);
    const auto kernel = args.kind == ActivationKind::kA32P   ? norm_quantise_kernel<ActivationKind::kA32P>
                        : args.kind == ActivationKind::kA256 ? norm_quantise_kernel<ActivationKind::kA256>
                                                             : norm_quantise_kernel<ActivationKind::kA16>;
    return launch_overlapping(kernel, dim3(args.rows), kThreads, shared, stream, args, x, weight, eps);
}

cudaError_t quantise(cudaStream_t stream, const Quantise& args, const float* x) {
    return launch_quantise(stream, args, Plain{x});
}

cudaError_t silu_quantise(cudaStream_t stream, const Quantise& args, const float* gate, const float* up) {
    return launch_quantise(stream, args, SiluTimes{gate, up});
}

}  // namespace driftwood::compute::cuda
