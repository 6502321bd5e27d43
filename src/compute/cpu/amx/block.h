// The loops around the tiles, for kernels that multiply many tokens by a slab of rows of a matrix, super-block by
// super-block. Internal linkage (see cpu/README.md).
//
// Tiles leave their sums in memory, and what vectors make of them there takes about as long as the tiles. So both go on
// at once: while the tiles multiply 16 tokens, the vectors work on the sums of the 16 before, and a little of each
// follows a little of the other, so that the processor finds both within the instructions that it looks at.
#pragma once

#include <utility>

#include "compute/cpu/amx/tiles.h"
#include "compute/cpu/amx/weight_lanes.h"
#include "compute/kernels.h"

namespace driftwood::compute::amx {

inline constexpr uint32_t kRows = 16;        // of the matrix, lanes of a register
inline constexpr uint32_t kTokens = 16;      // of a tile
inline constexpr uint32_t kMaxTokens = 512;  // that share an unpacked super-block
inline constexpr uint32_t kMaxRows = 128;    // that share packed activations

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

// S: the sum of a group's activations, from the sums of every 16.
[[maybe_unused]] inline int32_t group_sum(const int32_t* sums, uint32_t group) {
    return sums[2 * group] + sums[2 * group + 1];
}

// One plane of activations over the values of a super-block, in the order in which tiles load them: tokens by 16, and
// of those kValues at a time, row after row. Rows of the plane itself lie a power of two apart, as a rule, and would
// push each other out of the caches. Tokens and values that are missing are zero.
template <uint32_t kValues>
struct Plane {
    static constexpr uint32_t kParts = kSuperBlock / kValues;
    alignas(64) int8_t of[kMaxTokens / kTokens][kParts][kTokens][kValues];

    void pack(const int8_t* plane, const Linear& args, uint32_t first, uint32_t tokens, uint32_t block) {
        const uint32_t col = block * kSuperBlock;
        const uint32_t values = args.cols - col < kSuperBlock ? args.cols - col : kSuperBlock;
        if (tokens % kTokens != 0 || values < kSuperBlock) {
            __builtin_memset(of, 0, sizeof(of[0]) * ((tokens + kTokens - 1) / kTokens));
        }
        for (uint32_t t = 0; t < tokens; ++t) {
            const int8_t* row = plane + size_t{first + t} * args.cols + col;
            auto& tile = of[t / kTokens];
            if (values == kSuperBlock) {
                for (uint32_t p = 0; p < kParts; ++p)
                    __builtin_memcpy(tile[p][t % kTokens], row + p * kValues, kValues);
                continue;
            }
            for (uint32_t i = 0; i < values; i += kGroup) {
                __builtin_memcpy(tile[i / kValues][t % kTokens] + i % kValues, row + i, kGroup);
            }
        }
    }
};

// A tile of tokens of a super-block. The last one may have fewer than 16.
struct Place {
    uint32_t tile;
    uint32_t tokens;
    uint32_t groups;  // of the super-block that are there
};

// Sums of a tile of tokens, and where what comes of them is added: [token][rows of the band][row].
template <class Sums, uint32_t kTiles>
struct Turn {
    Place at;
    Sums sums;
    float (*results)[kTiles][kRows];
};

// A band of kTiles · 16 rows, of which `rows` are there, and one super-block: see multiply_rows.
template <class Work, uint32_t kTiles>
void multiply_band(const Linear& args, const typename Work::Panel& panel, uint32_t row, uint32_t rows, uint32_t tokens,
                   uint32_t block, float (*results)[kTiles][kRows]) {
    typename Work::template Slab<kTiles> slab;
    const uint32_t left = args.cols - block * kSuperBlock;
    const uint32_t values = left < kSuperBlock ? left : kSuperBlock;
    for (uint32_t k = 0; k < kTiles; ++k) {
        // Where a band has fewer rows than lanes, the last one once more.
        const uint32_t front = k * kRows < rows ? k * kRows : rows - 1;
        const uint32_t here = rows - front < kRows ? rows - front : kRows;
        Work::load({args.weights, args.row_bytes, row + front, here}, k, block, values, slab);
    }
    Turn<typename Work::template Sums<kTiles>, kTiles> turns[2];
    auto* next = &turns[0];
    auto* before = &turns[1];
    for (uint32_t i = 0; i < tokens + kTokens; i += kTokens) {
        const bool more = i < tokens;
        if (more) {
            next->at = {i / kTokens, tokens - i < kTokens ? tokens - i : kTokens, values / kGroup};
            next->results = results + i;
        }
        [&]<uint32_t... kStep>(std::integer_sequence<uint32_t, kStep...>) {
            (Work::template step<kStep, kTiles>(panel, slab, more ? next : nullptr, i == 0 ? nullptr : before), ...);
        }
        (std::make_integer_sequence<uint32_t, Work::template kSteps<kTiles>>());
        std::swap(next, before);
    }
}

// Rows and tokens that share packed activations: at most kMaxRows by kMaxTokens. A Work has
//   kTileValues  of a tile of activations
//   kBandTiles   times 16: rows of a band
//   kSteps       in which a tile of tokens is multiplied, and the sums of the one before are worked on
//   Lanes        as in weight_lanes.h
//   Panel        a super-block of all tokens: what tiles and vectors take of it
//   Slab         a super-block of a band, unpacked
//   Sums         of a tile of tokens
//   pack(args, first token, tokens, block, panel)
//   load(rows, tile, block, values, slab)
//   step<kStep>(panel, slab, next, before)      Turns, each of which may be null
template <class Work>
void multiply_rows(const Linear& args, uint32_t row_begin, uint32_t row_end, uint32_t first, uint32_t tokens) {
    constexpr uint32_t kBandRows = Work::kBandTiles * kRows;
    alignas(64) float results[kMaxRows / kBandRows][kMaxTokens][Work::kBandTiles][kRows];
    typename Work::Panel panel;
    const uint32_t whole_tiles = (tokens + kTokens - 1) / kTokens * kTokens;
    const uint32_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    for (uint32_t row = row_begin, band = 0; row < row_end; row += kBandRows, ++band) {
        __builtin_memset(results[band], 0, sizeof(results[0][0]) * whole_tiles);
    }
    for (uint32_t b = 0; b < blocks; ++b) {
        Work::pack(args, first, tokens, b, panel);
        for (uint32_t row = row_begin, band = 0; row < row_end; row += kBandRows, ++band) {
            const uint32_t rows = row_end - row < kBandRows ? row_end - row : kBandRows;
            multiply_band<Work, Work::kBandTiles>(args, panel, row, rows, tokens, b, results[band]);
        }
    }
    for (uint32_t row = row_begin; row < row_end; row += kRows) {
        const uint32_t rows = row_end - row < kRows ? row_end - row : kRows;
        const auto mask = static_cast<__mmask16>((uint32_t{1} << rows) - 1);
        const uint32_t tile = (row - row_begin) / kRows;
        for (uint32_t i = 0; i < tokens; ++i) {
            const float* from = results[tile / Work::kBandTiles][i][tile % Work::kBandTiles];
            _mm512_mask_storeu_ps(args.y + size_t{first + i} * args.y_stride + row, mask, _mm512_load_ps(from));
        }
    }
}

// All rows and all tokens.
template <class Work>
void multiply_all(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    const Tiles tiles(kConfig<Work::kTileValues>);
    for (uint32_t row = row_begin; row < row_end; row += kMaxRows) {
        const uint32_t end = row_end - row < kMaxRows ? row_end : row + kMaxRows;
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t tokens = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            multiply_rows<Work>(args, row, end, first, tokens);
        }
    }
}

}  // namespace
}  // namespace driftwood::compute::amx
