// Operations over the rows of a guest's floats, as compute/reference/rows.cc. Softmax and RMSNorm have a block of
// threads per row, and sums in rule 4's order: a warp per 256 values, then one after another. A row that fits is kept
// in shared memory, so that it crosses the bus once.
#include <algorithm>

#include "compute/cuda/guest_kernels.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kSumsAtOnce = 64;  // blocks of 256 whose sums are added together
constexpr uint32_t kEach = 4;         // values of a thread that are on their way together

__device__ float one_nan(float x) { return magnitude_bits(x) > kInfinityBits ? __uint_as_float(0x7FC00000U) : x; }

template <RowKind kKind>
__device__ float combine(float x, float y) {
    if constexpr (kKind == RowKind::kAdd) return __fadd_rn(x, y);
    if constexpr (kKind == RowKind::kMultiply) return __fmul_rn(x, y);
    if constexpr (kKind == RowKind::kSilu) return silu(x);
    return __fmul_rn(silu(x), y);
}

template <RowKind kKind>
__global__ void elementwise_kernel(RowsArgs r) {
    const uint32_t first = blockIdx.x * kThreads * kEach + threadIdx.x;
    for (uint32_t row = blockIdx.y; row < r.rows; row += gridDim.y) {
        const float* x = r.x + static_cast<size_t>(row) * r.ldx;
        const float* y = r.y + static_cast<size_t>(row) * r.ldy;
        float* out = r.out + static_cast<size_t>(row) * r.ldout;
        float a[kEach], b[kEach];
#pragma unroll
        for (uint32_t i = 0; i < kEach; ++i) {
            const uint32_t col = first + i * kThreads;
            a[i] = col < r.cols ? x[col] : 0.0F;
            b[i] = kKind != RowKind::kSilu && col < r.cols ? y[col] : 0.0F;
        }
#pragma unroll
        for (uint32_t i = 0; i < kEach; ++i) {
            const uint32_t col = first + i * kThreads;
            if (col < r.cols) out[col] = one_nan(combine<kKind>(a[i], b[i]));
        }
    }
}

// The sum, in every thread, of term(i) over a row: lane l of a warp chains a block's values l + 32 j, lanes fold,
// blocks add in order. add(sum, i) is the next link of a lane's chain.
template <class Add>
__device__ float ordered_sum(uint32_t n, Add add) {
    __shared__ float sums[kSumsAtOnce];
    const uint32_t blocks = (n - 1) / kSuperBlock + 1;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float total = 0.0F;
    for (uint32_t begin = 0; begin < blocks; begin += kSumsAtOnce) {
        const uint32_t count = min(kSumsAtOnce, blocks - begin);
        for (uint32_t block = warp; block < count; block += kWarps) {
            float sum = 0.0F;
            for (uint32_t j = 0; j < 8; ++j) sum = add(sum, (begin + block) * kSuperBlock + j * 32 + lane);
            for (uint32_t half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_down_sync(kAllLanes, sum, half));
            if (lane == 0) sums[block] = sum;
        }
        __syncthreads();
        for (uint32_t block = 0; block < count; ++block) total = __fadd_rn(total, sums[block]);
        __syncthreads();
    }
    return total;
}

// The exact maximum of a row, at least -infinity, and whether it has a NaN; in every thread.
__device__ float row_max(const float* x, uint32_t n, bool& nan) {
    __shared__ float most[kWarps];
    float max = __uint_as_float(0xFF800000U);
    bool mine = false;
    for (uint32_t i = threadIdx.x; i < n; i += kThreads) {
        const float value = x[i];
        max = value > max ? value : max;
        mine |= magnitude_bits(value) > kInfinityBits;
    }
    max = warp_max(max);
    if (threadIdx.x % 32 == 0) most[threadIdx.x / 32] = max;
    nan = __syncthreads_or(mine) != 0;
    for (uint32_t warp = 0; warp < kWarps; ++warp) max = max < most[warp] ? most[warp] : max;
    return max;
}

// This block's row, in shared memory where it fits.
__device__ const float* cached(const float* row, uint32_t n, float* cache) {
    if (n > kCachedRow) return row;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < n; i += kThreads) cache[i] = row[i];
    __syncthreads();
    return cache;
}

__global__ void softmax_kernel(RowsArgs r) {
    extern __shared__ float cache[];
    for (uint32_t row = blockIdx.x; row < r.rows; row += gridDim.x) {
        const float* x = cached(r.x + static_cast<size_t>(row) * r.ldx, r.cols, cache);
        float* out = r.out + static_cast<size_t>(row) * r.ldout;
        bool nan = false;
        const float max = row_max(x, r.cols, nan);
        float sum = ordered_sum(r.cols, [&](float before, uint32_t i) {
            return __fadd_rn(before, i < r.cols ? exp_f32(__fsub_rn(x[i], max)) : 0.0F);
        });
        if (nan) sum = __uint_as_float(0x7FC00000U);
        for (uint32_t i = threadIdx.x; i < r.cols; i += kThreads) {
            out[i] = one_nan(__fdiv_rn(exp_f32(__fsub_rn(x[i], max)), sum));
        }
        __syncthreads();  // before the next row comes into the cache
    }
}

__global__ void rms_norm_kernel(RowsArgs r) {
    extern __shared__ float cache[];
    for (uint32_t row = blockIdx.x; row < r.rows; row += gridDim.x) {
        const float* x = cached(r.x + static_cast<size_t>(row) * r.ldx, r.cols, cache);
        const float* weight = r.y + static_cast<size_t>(row) * r.ldy;
        float* out = r.out + static_cast<size_t>(row) * r.ldout;
        const float sum = ordered_sum(r.cols, [&](float before, uint32_t i) {
            const float value = i < r.cols ? x[i] : 0.0F;
            return __fmaf_rn(value, value, before);
        });
        const float mean = __fmaf_rn(sum, __fdiv_rn(1.0F, static_cast<float>(r.cols)), r.eps);
        const float factor = __fdiv_rn(1.0F, __fsqrt_rn(mean));
        for (uint32_t i = threadIdx.x; i < r.cols; i += kThreads) {
            out[i] = one_nan(__fmul_rn(__fmul_rn(x[i], factor), weight[i]));
        }
        __syncthreads();
    }
}

}  // namespace

cudaError_t guest_rows(cudaStream_t stream, const RowsArgs& args) {
    constexpr uint32_t kMostBlocks = 65535;
    const dim3 grid((args.cols - 1) / (kThreads * kEach) + 1, std::min(args.rows, kMostBlocks));
    const uint32_t rows = std::min(args.rows, kMostBlocks);
    const size_t shared = args.cols <= kCachedRow ? args.cols * sizeof(float) : 0;
    switch (args.kind) {
        case RowKind::kAdd: elementwise_kernel<RowKind::kAdd><<<grid, kThreads, 0, stream>>>(args); break;
        case RowKind::kMultiply: elementwise_kernel<RowKind::kMultiply><<<grid, kThreads, 0, stream>>>(args); break;
        case RowKind::kSilu: elementwise_kernel<RowKind::kSilu><<<grid, kThreads, 0, stream>>>(args); break;
        case RowKind::kSiluMultiply:
            elementwise_kernel<RowKind::kSiluMultiply><<<grid, kThreads, 0, stream>>>(args);
            break;
        case RowKind::kSoftmax: softmax_kernel<<<rows, kThreads, shared, stream>>>(args); break;
        case RowKind::kRmsNorm: rms_norm_kernel<<<rows, kThreads, shared, stream>>>(args); break;
    }
    return cudaGetLastError();
}

}  // namespace driftwood::compute::cuda
