// Records (records.cuh) from the blocks of a file, and rows of the embedding from records.
#include "compute/cuda/embed.cuh"
#include "compute/cuda/kernels.h"
#include "compute/cuda/launch.cuh"
#include "compute/cuda/records.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 256;

// ---- what the blocks of a file hold (formats.h)

__device__ uint16_t two_bytes(const uint8_t (&bytes)[2]) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }

// Value i of 32 whose 4 bits lie as in Q4_0, and its fifth bit from a word.
__device__ uint32_t nibble(const uint8_t* bytes, uint32_t i) { return i < 16 ? bytes[i] & 15U : bytes[i - 16] >> 4U; }
__device__ uint32_t fifth(const uint8_t (&high)[4], uint32_t i) { return high[i / 8] >> (i % 8) & 1U; }

// Value i of 256 in Q4_K and Q5_K without its fifth bit.
__device__ uint32_t pair_nibble(const uint8_t (&n)[128], uint32_t i) {
    const uint8_t byte = n[i / 64 * 32 + i % 32];
    return i / 32 % 2 == 0 ? byte & 15U : byte >> 4U;
}

__device__ uint32_t bits_of(const BlockQ8_0& b, uint32_t i) { return static_cast<uint8_t>(b.n[i]); }
__device__ uint32_t bits_of(const BlockQ4_0& b, uint32_t i) { return nibble(b.n, i); }
__device__ uint32_t bits_of(const BlockQ4_1& b, uint32_t i) { return nibble(b.n, i); }
__device__ uint32_t bits_of(const BlockQ5_0& b, uint32_t i) { return nibble(b.n, i) | fifth(b.high, i) << 4; }
__device__ uint32_t bits_of(const BlockQ5_1& b, uint32_t i) { return nibble(b.n, i) | fifth(b.high, i) << 4; }
__device__ uint32_t bits_of(const BlockQ4_K& b, uint32_t i) { return pair_nibble(b.n, i); }
__device__ uint32_t bits_of(const BlockQ5_K& b, uint32_t i) {
    return pair_nibble(b.n, i) | (b.high[i % 32] >> (i / 32) & 1U) << 4;
}
__device__ uint32_t bits_of(const BlockQ6_K& b, uint32_t i) {
    const uint32_t half = i / 128, g = i % 128 / 32;
    const uint8_t low = b.low[64 * half + 32 * (g % 2) + i % 32];
    return (g < 2 ? low & 15U : low >> 4U) | (b.high[32 * half + i % 32] >> (2 * g) & 3U) << 4;
}
__device__ uint32_t bits_of(const BlockQ4S& b, uint32_t i) { return nibble(b.n + i / 32 * 16, i % 32); }
__device__ uint32_t bits_of(const BlockW16& b, uint32_t i) { return static_cast<uint16_t>(b.n[i]); }

template <WeightType kType>
struct BlockOf;
#define DW_BLOCK(type)                    \
    template <>                           \
    struct BlockOf<WeightType::k##type> { \
        using Block = Block##type;        \
    }
DW_BLOCK(Q8_0);
DW_BLOCK(Q4_0);
DW_BLOCK(Q4_1);
DW_BLOCK(Q5_0);
DW_BLOCK(Q5_1);
DW_BLOCK(Q4_K);
DW_BLOCK(Q5_K);
DW_BLOCK(Q6_K);
DW_BLOCK(Q4S);
DW_BLOCK(W16);
#undef DW_BLOCK

template <WeightType kType>
using Block = typename BlockOf<kType>::Block;
template <WeightType kType>
constexpr uint32_t kBlockValues = kWeightFormats[static_cast<uint32_t>(kType)].values;

// Scales and minima of Q4_K and Q5_K.
__device__ uint32_t packed_scale(const uint8_t (&s)[kPackedScaleBytes], uint32_t j) {
    return j < 4 ? s[j] & 63U : (s[j + 4] & 15U) | s[j - 4] >> 6 << 4;
}
__device__ uint32_t packed_min(const uint8_t (&s)[kPackedScaleBytes], uint32_t j) {
    return j < 4 ? s[j + 4] & 63U : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

// ---- records from them

// The integers of 16 rows and 256 columns as unsigned bits, on their way.
using Numbers = uint16_t[kTileRows][kSuperBlock];

// Row and column of byte `byte` of word `word` of a lane in group j.
struct At {
    uint32_t row, col;
};
__device__ At at_of(uint32_t lane, uint32_t j, uint32_t word, uint32_t byte) {
    return {lane / 4 + word % 2 * 8, j * kTileCols + word / 2 * 16 + lane % 4 * 4 + byte};
}

template <class Value>
__device__ void fill_bytes(void* to, uint32_t size, const Value& value) {
    for (uint32_t i = threadIdx.x; i < size; i += kThreads) static_cast<uint8_t*>(to)[i] = value(i);
}

template <WeightType kType>
__device__ void fill_integers(Record<kType>& record, const Numbers& n) {
    using R = Record<kType>;
    if constexpr (R::kBits >= 8) {
        // A group's tile: byte i is of lane i / 16, word i / 4 % 4.
        const auto tile = [&](uint32_t i) {
            const At at = at_of(i % 512 / 16, i / 512, i / 4 % 4, i % 4);
            return n[at.row][at.col];
        };
        if constexpr (R::kBits == 8) {
            fill_bytes(record.bytes, sizeof(record.bytes), [&](uint32_t i) { return static_cast<uint8_t>(tile(i)); });
        } else {
            fill_bytes(record.low, sizeof(record.low), [&](uint32_t i) { return static_cast<uint8_t>(tile(i)); });
            fill_bytes(record.high, sizeof(record.high),
                       [&](uint32_t i) { return static_cast<uint8_t>((tile(i) + 128U) >> 8); });
        }
    } else {
        fill_bytes(record.low, sizeof(record.low), [&](uint32_t i) {
            const uint32_t word = i / 4 % 4;  // left and right of the first group, of the second
            const At at = at_of(i % 512 / 16, i / 512 * 2 + word / 2, word % 2 * 2, i % 4);
            return static_cast<uint8_t>((n[at.row][at.col] & 15U) | (n[at.row + 8][at.col] & 15U) << 4);
        });
    }
    if constexpr (R::kBits == 5) {
        fill_bytes(record.high, sizeof(record.high), [&](uint32_t i) {
            uint32_t byte = 0;
            for (uint32_t bit = 0; bit < 8; ++bit) {
                const At at = at_of(i / 16, i / 4 % 4 * 2 + bit / 4, bit % 4, i % 4);
                byte |= (n[at.row][at.col] >> 4 & 1U) << bit;
            }
            return static_cast<uint8_t>(byte);
        });
    }
    if constexpr (R::kBits == 6) {
        fill_bytes(record.high, sizeof(record.high), [&](uint32_t i) {
            uint32_t byte = 0;
            for (uint32_t word = 0; word < 4; ++word) {
                const At at = at_of(i % 512 / 16, i / 512 * 4 + i / 4 % 4, word, i % 4);
                byte |= (n[at.row][at.col] >> 4 & 3U) << (2 * word);
            }
            return static_cast<uint8_t>(byte);
        });
    }
}

// Scales of one row, of which `block` is the first block of the super-block (null beyond the rows) and `groups` groups
// are there.
template <WeightType kType>
__device__ void fill_scales(Record<kType>& record, uint32_t row, const Block<kType>* block, uint32_t groups) {
    if constexpr (Record<kType>::kGroupScales) {
        for (uint32_t j = 0; j < 8; ++j) {
            const bool there = block != nullptr && j < groups;
            record.d[row][j] = there ? two_bytes(block[j].d) : 0;
            if constexpr (Record<kType>::kHasMin) record.m[row][j] = there ? two_bytes(block[j].m) : 0;
        }
    } else if constexpr (kType == WeightType::kW16) {
        record.scale[row] = block == nullptr ? 0.0F : block->scale;
    } else {
        record.d[row] = block == nullptr ? 0 : two_bytes(block->d);
        for (uint32_t j = 0; j < sizeof(record.scale[row]); ++j) {
            if (block == nullptr) {
                record.scale[row][j] = 0;
            } else if constexpr (Record<kType>::kHasMin) {
                record.scale[row][j] = static_cast<uint8_t>(packed_scale(block->scales, j));
            } else if constexpr (kType == WeightType::kQ6_K) {
                record.scale[row][j] = block->scales[j];
            } else {
                record.scale[row][j] = static_cast<uint8_t>(block->scales[j / 2] >> (4 * (j % 2)) & 15);
            }
        }
        if constexpr (Record<kType>::kHasMin) {
            record.dmin[row] = block == nullptr ? 0 : two_bytes(block->dmin);
            for (uint32_t j = 0; j < 8; ++j) {
                record.min[row][j] = static_cast<uint8_t>(block == nullptr ? 0 : packed_min(block->scales, j));
            }
        }
    }
}

// A block per record.
template <WeightType kType>
__global__ void __launch_bounds__(kThreads) repack_records_kernel(const uint8_t* bytes, size_t row_bytes, uint32_t rows,
                                                                  uint32_t cols, Record<kType>* records) {
    __shared__ Numbers numbers;
    using R = Record<kType>;
    const uint32_t sb = blockIdx.x;
    R& record = records[static_cast<size_t>(blockIdx.y) * gridDim.x + sb];
    constexpr uint32_t kBlocks = kSuperBlock / kBlockValues<kType>;  // of a super-block
    const auto block_of = [&](uint32_t r) -> const Block<kType>* {
        const uint32_t row = blockIdx.y * kTileRows + r;
        if (row >= rows) return nullptr;
        return reinterpret_cast<const Block<kType>*>(bytes + row * row_bytes) + static_cast<size_t>(sb) * kBlocks;
    };
    const uint32_t count = min(kSuperBlock, cols - sb * kSuperBlock);
    for (uint32_t i = threadIdx.x; i < kTileRows * kSuperBlock; i += kThreads) {
        const uint32_t row = i / kSuperBlock;
        const uint32_t col = i % kSuperBlock;
        const Block<kType>* block = block_of(row);
        constexpr uint32_t kTurned = R::kUp == 0 ? 0 : 1U << (R::kBits - 1);
        const bool there = block != nullptr && col < count;
        numbers[row][col] = static_cast<uint16_t>(
            there ? bits_of(block[col / kBlockValues<kType>], col % kBlockValues<kType>) ^ kTurned : 0);
    }
    __syncthreads();
    fill_integers<kType>(record, numbers);
    if (threadIdx.x < kTileRows) {
        fill_scales<kType>(record, threadIdx.x, block_of(threadIdx.x), count / kGroup);
    }
}

// ---- the embedding (rule 9)

__global__ void embed_records_kernel(TiledMatrix matrix, const uint32_t* tokens, float* out) {
    wait_for_previous();
    const uint32_t col = blockIdx.y * kThreads + threadIdx.x;
    if (col >= matrix.cols) return;
    out[static_cast<size_t>(blockIdx.x) * matrix.cols + col] = embedded_untiled(matrix, tokens[blockIdx.x], col);
}

template <WeightType kType>
cudaError_t repack_type(cudaStream_t stream, const uint8_t* bytes, size_t row_bytes, const TiledMatrix& out,
                        uint8_t* to) {
    const dim3 grid(super_blocks_of(out.cols), tiles_of(out.rows));
    auto* records = reinterpret_cast<Record<kType>*>(to);
    repack_records_kernel<kType><<<grid, kThreads, 0, stream>>>(bytes, row_bytes, out.rows, out.cols, records);
    return cudaGetLastError();
}

using Repack = cudaError_t (*)(cudaStream_t, const uint8_t*, size_t, const TiledMatrix&, uint8_t*);

Repack repack_of(WeightType type) {
    switch (type) {
        case WeightType::kQ8_0: return repack_type<WeightType::kQ8_0>;
        case WeightType::kQ4_0: return repack_type<WeightType::kQ4_0>;
        case WeightType::kQ4_1: return repack_type<WeightType::kQ4_1>;
        case WeightType::kQ5_0: return repack_type<WeightType::kQ5_0>;
        case WeightType::kQ5_1: return repack_type<WeightType::kQ5_1>;
        case WeightType::kQ4_K: return repack_type<WeightType::kQ4_K>;
        case WeightType::kQ5_K: return repack_type<WeightType::kQ5_K>;
        case WeightType::kQ6_K: return repack_type<WeightType::kQ6_K>;
        case WeightType::kQ4S: return repack_type<WeightType::kQ4S>;
        default: return repack_type<WeightType::kW16>;
    }
}

}  // namespace

size_t record_bytes(WeightType type) { return record_size(type); }

cudaError_t repack_records(cudaStream_t stream, const uint8_t* bytes, size_t row_bytes, const TiledMatrix& out,
                           uint8_t* records) {
    return repack_of(out.type)(stream, bytes, row_bytes, out, records);
}

cudaError_t embed_records(cudaStream_t stream, const TiledMatrix& matrix, const uint32_t* tokens, uint32_t rows,
                          float* out) {
    const dim3 grid(rows, (matrix.cols + kThreads - 1) / kThreads);
    return launch_overlapping(embed_records_kernel, grid, kThreads, 0, stream, matrix, tokens, out);
}

}  // namespace driftwood::compute::cuda
