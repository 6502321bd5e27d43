// Products of a guest's matrices: one fma chain per output over ascending k from +0, one addition of the old value, one
// rounding. A block of 256 threads makes a square tile of outputs, each thread some of them; tiles of A and B pass
// through shared memory, widened to float, and the next ones are on their way while these are multiplied. Nothing is
// added for k beyond the matrix: that would turn -0 into +0.
#include <cuda_fp16.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "compute/cuda/guest_kernels.h"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kSide = 16;  // threads along each side of a tile
constexpr uint32_t kThreads = kSide * kSide;
constexpr uint32_t kPad = 4;  // keeps rows of four floats aligned and columns off one bank

__device__ float load(const void* base, ElementType type, size_t i) {
    if (type == ElementType::kF32) return static_cast<const float*>(base)[i];
    const uint16_t bits = static_cast<const uint16_t*>(base)[i];
    if (type == ElementType::kF16) return __half2float(__ushort_as_half(bits));
    return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

// half.h's rounding: to nearest, ties to even, every NaN the same.
__device__ void store(void* base, ElementType type, size_t i, float x) {
    const bool nan = (__float_as_uint(x) & 0x7FFFFFFFU) > 0x7F800000U;
    if (type == ElementType::kF32) {
        static_cast<float*>(base)[i] = nan ? __uint_as_float(0x7FC00000U) : x;
    } else if (type == ElementType::kF16) {
        static_cast<uint16_t*>(base)[i] = nan ? 0x7E00 : __half_as_ushort(__float2half_rn(x));
    } else {
        const uint32_t bits = __float_as_uint(x);
        static_cast<uint16_t*>(base)[i] =
            nan ? 0x7FC0 : static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
    }
}

// A tile of kTile lines (rows of A or columns of B) by kDepth steps of k, on its way into shared memory: each thread
// has kCount numbers of it. Neighbouring threads read what lies side by side.
template <uint32_t kTile, uint32_t kDepth>
struct Fetch {
    static constexpr uint32_t kCount = kTile * kDepth / kThreads;
    float value[kCount];

    static __device__ void place(uint32_t i, bool along_k, uint32_t& line, uint32_t& p) {
        const uint32_t index = i * kThreads + threadIdx.x;
        line = along_k ? index / kDepth : index % kTile;
        p = along_k ? index % kDepth : index / kTile;
    }
    __device__ void get(const void* base, ElementType type, size_t line_stride, size_t k_stride, uint32_t first_line,
                        uint32_t lines, uint32_t first_k, uint32_t k) {
#pragma unroll
        for (uint32_t i = 0; i < kCount; ++i) {
            uint32_t line, p;
            place(i, k_stride == 1, line, p);
            const bool inside = first_line + line < lines && first_k + p < k;
            value[i] = inside ? load(base, type, (first_line + line) * line_stride + (first_k + p) * k_stride) : 0.0F;
        }
    }
    __device__ void put(float (&tile)[kDepth][kTile + kPad], bool along_k) const {
#pragma unroll
        for (uint32_t i = 0; i < kCount; ++i) {
            uint32_t line, p;
            place(i, along_k, line, p);
            tile[p][line] = value[i];
        }
    }
};

template <uint32_t kTile>
__global__ void __launch_bounds__(kThreads) gemm_kernel(GemmArgs g) {
    constexpr uint32_t kDepth = gemm_depth(kTile);
    constexpr uint32_t kEach = kTile / kSide;  // rows and columns of a thread
    __shared__ alignas(16) float a_tile[kDepth][kTile + kPad];
    __shared__ alignas(16) float b_tile[kDepth][kTile + kPad];
    const bool a_turned = g.a_transpose == Transpose::kYes, b_turned = g.b_transpose == Transpose::kYes;
    const size_t a_line = a_turned ? 1 : g.lda, a_k = a_turned ? g.lda : 1;
    const size_t b_line = b_turned ? g.ldb : 1, b_k = b_turned ? 1 : g.ldb;
    const uint32_t row = blockIdx.y * kTile, col = blockIdx.x * kTile;
    const uint32_t my_row = threadIdx.x / kSide * kEach, my_col = threadIdx.x % kSide * kEach;
    float sum[kEach][kEach] = {};
    Fetch<kTile, kDepth> a, b;
    a.get(g.a, g.a_type, a_line, a_k, row, g.m, 0, g.k);
    b.get(g.b, g.b_type, b_line, b_k, col, g.n, 0, g.k);
    for (uint32_t first = 0; first < g.k; first += kDepth) {
        __syncthreads();
        a.put(a_tile, a_k == 1);
        b.put(b_tile, b_k == 1);
        __syncthreads();
        if (g.k - first > kDepth) {
            a.get(g.a, g.a_type, a_line, a_k, row, g.m, first + kDepth, g.k);
            b.get(g.b, g.b_type, b_line, b_k, col, g.n, first + kDepth, g.k);
        }
        const uint32_t depth = min(kDepth, g.k - first);
#pragma unroll 8
        for (uint32_t p = 0; p < depth; ++p) {
            float x[kEach], y[kEach];
#pragma unroll
            for (uint32_t i = 0; i < kEach; ++i) x[i] = a_tile[p][my_row + i];
#pragma unroll
            for (uint32_t j = 0; j < kEach; ++j) y[j] = b_tile[p][my_col + j];
#pragma unroll
            for (uint32_t i = 0; i < kEach; ++i) {
#pragma unroll
                for (uint32_t j = 0; j < kEach; ++j) sum[i][j] = __fmaf_rn(x[i], y[j], sum[i][j]);
            }
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kEach; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < kEach; ++j) {
            if (row + my_row + i >= g.m || col + my_col + j >= g.n) continue;
            const size_t at = static_cast<size_t>(row + my_row + i) * g.ldc + col + my_col + j;
            const float old = g.accumulate ? load(g.c, g.c_type, at) : 0.0F;
            store(g.c, g.c_type, at, g.accumulate ? __fadd_rn(old, sum[i][j]) : sum[i][j]);
        }
    }
}

template <class Word>
__global__ void copy_rows_kernel(CopyRows c) {
    constexpr uint32_t kAtOnce = 4;  // loads of a thread on their way
    const uint64_t words = c.row_bytes / sizeof(Word);
    const uint64_t step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
    const uint64_t all = words * c.rows;
    for (uint64_t first = blockIdx.x * blockDim.x + threadIdx.x; first < all; first += kAtOnce * step) {
        Word word[kAtOnce];
#pragma unroll
        for (uint32_t i = 0; i < kAtOnce; ++i) {
            const uint64_t at = first + i * step;
            if (at < all)
                word[i] =
                    *reinterpret_cast<const Word*>(c.from + at / words * c.from_pitch + at % words * sizeof(Word));
        }
#pragma unroll
        for (uint32_t i = 0; i < kAtOnce; ++i) {
            const uint64_t at = first + i * step;
            if (at < all)
                *reinterpret_cast<Word*>(c.to + at / words * c.to_pitch + at % words * sizeof(Word)) = word[i];
        }
    }
}

}  // namespace

cudaError_t guest_gemm(cudaStream_t stream, const GemmArgs& args, uint32_t tile) {
    // The grid's second side is the shorter one.
    const dim3 grid((args.n + tile - 1) / tile, (args.m + tile - 1) / tile);
    if (grid.y > 65535) return cudaErrorInvalidConfiguration;
    if (tile == 32) gemm_kernel<32><<<grid, kThreads, 0, stream>>>(args);
    if (tile == 64) gemm_kernel<64><<<grid, kThreads, 0, stream>>>(args);
    if (tile == 128) gemm_kernel<128><<<grid, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
}

cudaError_t copy_rows(cudaStream_t stream, const CopyRows& args) {
    CopyRows c = args;
    if (c.rows == 0 || c.row_bytes == 0) return cudaSuccess;
    if (c.from_pitch == c.row_bytes && c.to_pitch == c.row_bytes) c.row_bytes *= std::exchange(c.rows, 1);
    const uint64_t bits = reinterpret_cast<uintptr_t>(c.from) | reinterpret_cast<uintptr_t>(c.to) | c.row_bytes |
                          (c.rows > 1 ? c.from_pitch | c.to_pitch : 0);
    const uint64_t word = bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : 2;
    constexpr uint64_t kMostBlocks = 1024;
    const uint64_t words = c.rows * c.row_bytes / word;
    const auto blocks = static_cast<uint32_t>(std::min(kMostBlocks, (words + 1023) / 1024));
    if (word == 16) copy_rows_kernel<uint4><<<blocks, 256, 0, stream>>>(c);
    if (word == 4) copy_rows_kernel<uint32_t><<<blocks, 256, 0, stream>>>(c);
    if (word == 2) copy_rows_kernel<uint16_t><<<blocks, 256, 0, stream>>>(c);
    return cudaGetLastError();
}

}  // namespace driftwood::compute::cuda
