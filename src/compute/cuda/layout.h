// How matrices lie in the card's memory: in the order in which the lanes of a warp hold the operands of
// mma.sync.m16n8k32 (8-bit integers, 32-bit sums), so that a lane loads its part of a tile with one wide access.
//
// A tile of weights is 16 rows by 32 columns, 512 bytes: lane l = 4 g + t holds 16 of them, four words of four
// consecutive columns: (row g, columns 4t…), (row g + 8, 4t…), (row g, 16 + 4t…), (row g + 8, 16 + 4t…).
// Q4_0 has n - 8 in 4 bits, two groups' tiles together in 512 bytes, 16 of a lane: of each group a word for its left 16
// columns and one for its right, the low half of each byte of row g, the high half of row g + 8.
// A tile of activations is 16 tokens by 32 columns: lane 4 g + t holds (token g, columns 4t…), (token g, 16 + 4t…), and
// the same of token g + 8. For wgmma, whose operand is in shared memory, a super-block of 16 tokens is instead cores of
// 8 tokens by 16 columns, a token's 16 together: [token / 8][group][half of its columns][token % 8][column % 16].
//
// A matrix is tiles [row tile][group], with groups padded to whole super-blocks and rows to whole tiles by zeros, which
// change no sum. Scales of weights are [row tile][super-block][16 rows][8 groups]; scales of activations
// [token tile][group][16 tokens] (A32P) or [token tile][super-block][16 tokens] (A256).
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/formats.h"

#if defined(__CUDACC__)
#define DW_DEVICE __host__ __device__
#else
#define DW_DEVICE
#endif

namespace driftwood::compute::cuda {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kTileCols = 32;
inline constexpr uint32_t kTileBytes = kTileRows * kTileCols;
inline constexpr uint32_t kGroupsPerSuperBlock = 8;

DW_DEVICE constexpr uint32_t tiles_of(uint32_t rows) { return (rows + kTileRows - 1) / kTileRows; }
DW_DEVICE constexpr uint32_t super_blocks_of(uint32_t cols) { return (cols + 255) / 256; }
DW_DEVICE constexpr uint32_t padded_groups(uint32_t cols) { return super_blocks_of(cols) * kGroupsPerSuperBlock; }

// Bytes of a tile of weights.
DW_DEVICE constexpr uint32_t tile_bytes(WeightType type) {
    return type == WeightType::kQ4_0 ? kTileBytes / 2 : kTileBytes;
}

// Q4_0: byte of (row, column) of a group from the start of its pair's tiles; the row says which half of it.
DW_DEVICE constexpr uint32_t nibble_byte(uint32_t group, uint32_t row, uint32_t col) {
    const uint32_t lane = row % 8 * 4 + col % 16 / 4;
    return lane * 16 + group % 2 * 8 + col / 16 * 4 + col % 4;
}

// Byte of (row, column) inside a tile of weights in 8 bits.
DW_DEVICE constexpr uint32_t weight_byte(uint32_t row, uint32_t col) {
    const uint32_t lane = row % 8 * 4 + col % 16 / 4;
    return lane * 16 + (col / 16 * 2 + row / 8) * 4 + col % 4;
}

// Byte of (token, column) inside a tile of activations.
DW_DEVICE constexpr uint32_t activation_byte(uint32_t token, uint32_t col) {
    const uint32_t lane = token % 8 * 4 + col % 16 / 4;
    return lane * 16 + (token / 8 * 2 + col / 16) * 4 + col % 4;
}

// Byte of (token, column of a group) in a super-block of 16 tokens, in cores.
DW_DEVICE constexpr uint32_t core_byte(uint32_t token, uint32_t group, uint32_t col) {
    return token / 8 * 2048 + group * 256 + col / 16 * 128 + token % 8 * 16 + col % 16;
}

}  // namespace driftwood::compute::cuda
