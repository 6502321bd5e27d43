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
        const uint32_t first = block * kSuperBlock + lane * 8;
        float by[8];
        load_eight(values, args.cols, first, value);
        load_eight(weight, args.cols, first, by);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) value[j] = __fmul_rn(__fmul_rn(value[j], factor), by[j]);
        finite &= store_super_block<kKind>(args.out, blockIdx.x, block, super_blocks, value);
    }
    note(args, source, finite);
}

// A warp per super-block; value.load(row, n, first, x) gives the 8 values from `first` on of a row of n.
template <ActivationKind kKind, class Value>
__global__ void quantise_kernel(Quantise args, Value value) {
    wait_for_previous();
    const uint32_t super_blocks = super_blocks_of(args.cols);
    const uint32_t block = blockIdx.y * kQuantiseWarps + threadIdx.x / 32;
    if (block >= super_blocks) return;
    const uint32_t source = args.source == nullptr ? blockIdx.x : args.source[blockIdx.x];
    float x[8];
    value.load(source, args.cols, block * kSuperBlock + threadIdx.x % 32 * 8, x);
    note(args, source, store_super_block<kKind>(args.out, blockIdx.x, block, super_blocks, x));
}

struct Plain {
    const float* x;
    __device__ void load(uint32_t row, uint32_t n, uint32_t first, float (&to)[8]) const {
        load_eight(x + static_cast<size_t>(row) * n, n, first, to);
    }
};

struct SiluTimes {
    const float* gate;
    const float* up;
    __device__ void load(uint32_t row, uint32_t n, uint32_t first, float (&to)[8]) const {
        float by[8];
        load_eight(gate + static_cast<size_t>(row) * n, n, first, to);
        load_eight(up + static_cast<size_t>(row) * n, n, first, by);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) to[j] = __fmul_rn(silu(to[j]), by[j]);
    }
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
