// 16 tokens by 16 rows of a matrix over one super-block: its integer sums, by tiles, and the loops around them.
// Internal linkage (see cpu/README.md).
//
// A super-block is cut into parts, each with a scale of its own: 8 groups of 32 values, or 16 of 16 (Q6_K). A tile's
// multiplication covers one part.
#pragma once

#include "compute/cpu/amx/tiles.h"
#include "compute/cpu/amx/weight_lanes.h"
#include "compute/kernels.h"

namespace driftwood::compute::amx {

inline constexpr uint32_t kRows = 16;        // of the matrix, lanes of a register
inline constexpr uint32_t kTokens = 16;      // of a tile
inline constexpr uint32_t kMaxTokens = 256;  // tokens whose sums are kept while a super-block is unpacked

namespace {  // each kernel file gets copies of its own

// Tiles 0..3: sums. 4, 5: activations of 16 tokens. 6, 7: weights.
template <uint32_t kValues>
inline constexpr TileConfig kConfig = {
    .palette = 1,
    .start_row = 0,
    .reserved = {},
    .row_bytes = {64, 64, 64, 64, kValues, kValues, 64, 64},
    .rows = {kTokens, kTokens, kTokens, kTokens, kTokens, kTokens, kValues / 4, kValues / 4},
};

// Products of each part of a super-block, [part][token][row].
template <uint32_t kParts>
struct PartSums {
    static constexpr uint32_t kPartValues = kSuperBlock / kParts;
    alignas(64) int32_t of[kParts][kTokens][kRows];
};

template <uint32_t kPart, uint32_t kParts>
[[maybe_unused]] inline void multiply_from(const int8_t* q, size_t stride, const uint8_t* words, size_t words_stride,
                                           uint32_t count, PartSums<kParts>& sums) {
    if constexpr (kPart < kParts) {
        if (kPart >= count) return;
        constexpr int kSum = kPart % 4;
        constexpr int kSide = kPart % 2;
        tile_zero<kSum>();
        tile_load<4 + kSide>(q + size_t{kPart} * PartSums<kParts>::kPartValues, stride);
        tile_load<6 + kSide>(words + kPart * words_stride, sizeof(__m512i));
        tile_multiply<kSum, 4 + kSide, 6 + kSide>();
        tile_store<kSum>(sums.of[kPart], sizeof(sums.of[0][0]));
        multiply_from<kPart + 1, kParts>(q, stride, words, words_stride, count, sums);
    }
}

// The sums of the first `count` parts: 16 tokens of activations, `stride` bytes apart, by weights as weight_lanes.h
// makes them, part by part `words_stride` bytes apart.
template <uint32_t kParts>
[[maybe_unused]] inline void multiply(const int8_t* q, size_t stride, const __m512i* words, size_t words_stride,
                                      uint32_t count, PartSums<kParts>& sums) {
    multiply_from<0, kParts>(q, stride, reinterpret_cast<const uint8_t*>(words), words_stride, count, sums);
}

// One plane of 16 tokens' activations over the `cols` values of a super-block. Where tokens or values are missing, a
// copy with zeros in their place.
class Plane {
  public:
    Plane(const int8_t* plane, const Linear& args, uint32_t token, uint32_t tokens, uint32_t col, uint32_t cols) {
        at_ = plane + size_t{token} * args.cols + col;
        stride_ = args.cols;
        if (tokens >= kTokens && cols == kSuperBlock) return;
        __builtin_memset(copy_, 0, sizeof(copy_));
        for (uint32_t t = 0; t < tokens; ++t) __builtin_memcpy(copy_[t], at_ + t * stride_, cols);
        at_ = copy_[0];
        stride_ = sizeof(copy_[0]);
    }
    Plane(const Plane&) = delete;
    Plane& operator=(const Plane&) = delete;
    const int8_t* at() const { return at_; }
    size_t stride() const { return stride_; }

  private:
    const int8_t* at_;
    size_t stride_;
    int8_t copy_[kTokens][kSuperBlock];
};

// S: the sum of a group's activations, from the sums of every 16.
[[maybe_unused]] inline int32_t group_sum(const int32_t* sums, uint32_t group) {
    return sums[2 * group] + sums[2 * group + 1];
}

// Calls sums(args, rows, first_token, tokens, acc), whose tiles hold kValues values of a token or a row, for 16 rows of
// the matrix and at most kMaxTokens tokens at a time, and writes acc, a register per token and a lane per row, to y.
template <uint32_t kValues, class Sums>
void by_sixteen_rows(const Linear& args, uint32_t row_begin, uint32_t row_end, const Sums& sums) {
    const Tiles tiles(kConfig<kValues>);
    for (uint32_t r = row_begin; r < row_end; r += kRows) {
        const uint32_t count = row_end - r < kRows ? row_end - r : kRows;
        const auto mask = static_cast<__mmask16>((uint32_t{1} << count) - 1);
        const RowsOf<Isa> rows(args.weights, args.row_bytes, r, count);
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t tokens = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            __m512 acc[kMaxTokens];
            for (uint32_t i = 0; i < tokens; ++i) acc[i] = _mm512_setzero_ps();
            sums(args, rows, first, tokens, acc);
            for (uint32_t i = 0; i < tokens; ++i) {
                _mm512_mask_storeu_ps(args.y + size_t{first + i} * args.y_stride + r, mask, acc[i]);
            }
        }
    }
}

}  // namespace
}  // namespace driftwood::compute::amx
