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
inline constexpr uint32_t kMaxRows = 256;    // that share packed activations

namespace {  // each kernel file gets copies of its own

// Tiles 0..3: sums. 4, 5: activations of 16 tokens. 6, 7: weights. Of the three a kernel uses as few as it can: the two
// threads of a core share the registers behind these names, each holds one for every name in use, and instructions wait
// for each other where few are left (see cpu/README.md).
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
#pragma GCC unroll 8
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

// What is multiplied together: a tile of tokens and a part of a band's rows. The last tile may have fewer tokens.
struct Place {
    uint32_t tile;
    uint32_t part;
    uint32_t groups;  // of the super-block that are there
};

// Where the results of 16 tokens and 16 rows of the matrix are before a super-block and after it.
struct Results {
    const float* from;
    size_t from_stride;  // between tokens
    float* to;
    size_t to_stride;
    bool streams;  // past the caches
};

// The sums of a place, and where what comes of them is added.
template <class Work>
struct Turn {
    Place at;
    typename Work::Sums sums;
    Results results[Work::kBandTiles / Work::kParts];
};

// Tokens of a call, from `first` on, and one of their super-blocks.
struct Tokens {
    uint32_t first;
    uint32_t count;
    uint32_t block;
    uint32_t values;  // of the super-block that are there
    bool last;        // super-block of a row
    bool streams;     // results
};

// Whole lines of results go past the caches where there are more than those hold until somebody reads them: to write a
// line there takes reading it first, and rows lie a power of two apart, where few lines find a place.
inline constexpr size_t kStreamed = size_t{4} << 20;

[[maybe_unused]] inline bool results_stream(const Linear& args, uint32_t row_begin) {
    const auto first = reinterpret_cast<uintptr_t>(args.y + row_begin);
    const bool lines = first % sizeof(__m512) == 0 && args.y_stride % kRows == 0;
    return lines && size_t{args.tokens} * args.y_stride * sizeof(float) >= kStreamed;
}

// Rows of the matrix that are multiplied together, of which `count` are there, and what they have come to so far.
struct Band {
    uint32_t row;
    uint32_t count;
    float (*results)[kMaxTokens][kRows];  // of each 16 rows
};

alignas(64) inline constexpr float kNoResults[kRows] = {};

// A tile of tokens and 16 rows of the band begin with zero, and go where they belong after the last super-block. Those
// of which some tokens or rows are missing do so later: see multiply_rows.
[[maybe_unused]] inline Results results_of(const Linear& args, const Tokens& tokens, const Band& band, uint32_t tile,
                                           uint32_t k) {
    const uint32_t token = tile * kTokens;
    const uint32_t row = band.row + k * kRows;
    float* const held = band.results[k][token];
    const bool whole = token + kTokens <= tokens.count && (k + 1) * kRows <= band.count;
    Results results{held, kRows, held, kRows, false};
    if (tokens.block == 0) results.from = kNoResults, results.from_stride = 0;
    if (tokens.last && whole) {
        results.to = args.y + size_t{tokens.first + token} * args.y_stride + row;
        results.to_stride = args.y_stride;
        results.streams = tokens.streams;
    }
    return results;
}

// A band and one super-block: see multiply_rows.
template <class Work>
void multiply_band(const Linear& args, const Tokens& tokens, const Band& band, const typename Work::Panel& panel) {
    typename Work::Slab slab;
    for (uint32_t k = 0; k < Work::kBandTiles; ++k) {
        // Where a band has fewer rows than lanes, the last one once more.
        const uint32_t front = k * kRows < band.count ? k * kRows : band.count - 1;
        const uint32_t here = band.count - front < kRows ? band.count - front : kRows;
        Work::load({args.weights, args.row_bytes, band.row + front, here}, k, tokens.block, tokens.values, slab);
    }
    constexpr uint32_t kPartTiles = Work::kBandTiles / Work::kParts;
    Turn<Work> turns[2];
    Turn<Work>* next = &turns[0];
    Turn<Work>* before = &turns[1];
    const uint32_t count = (tokens.count + kTokens - 1) / kTokens * Work::kParts;
    for (uint32_t n = 0; n <= count; ++n) {
        const bool more = n < count;
        if (more) {
            next->at = {n / Work::kParts, n % Work::kParts, tokens.values / kGroup};
            for (uint32_t k = 0; k < kPartTiles; ++k) {
                next->results[k] = results_of(args, tokens, band, next->at.tile, next->at.part * kPartTiles + k);
            }
        }
        Work::turn(panel, slab, more ? next : nullptr, n == 0 ? nullptr : before);
        std::swap(next, before);
    }
}

// Rows and tokens that share packed activations: at most kMaxRows by kMaxTokens. A Work has
//   kTileValues  of a tile of activations
//   kBandTiles   times 16: rows of a band
//   kParts       of a band's rows: each is multiplied in a turn of its own
//   Lanes        as in weight_lanes.h
//   Panel        a super-block of all tokens: what tiles and vectors take of it
//   Slab         a super-block of a band, unpacked
//   Sums         of a turn
//   pack(args, first token, tokens, block, panel)
//   load(rows, tile, block, values, slab)
//   turn(panel, slab, next, before)     multiplies next and works on the sums of the turn before; each may be null
template <class Work>
void multiply_rows(const Linear& args, uint32_t row_begin, uint32_t row_end, uint32_t first, uint32_t tokens) {
    constexpr uint32_t kBandRows = Work::kBandTiles * kRows;
    alignas(64) float results[kMaxRows / kRows][kMaxTokens][kRows];
    typename Work::Panel panel;
    const uint32_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    for (uint32_t b = 0; b < blocks; ++b) {
        const uint32_t left = args.cols - b * kSuperBlock;
        const uint32_t values = left < kSuperBlock ? left : kSuperBlock;
        const Tokens here{first, tokens, b, values, b + 1 == blocks, results_stream(args, row_begin)};
        Work::pack(args, first, tokens, b, panel);
        for (uint32_t row = row_begin; row < row_end; row += kBandRows) {
            const uint32_t rows = row_end - row < kBandRows ? row_end - row : kBandRows;
            multiply_band<Work>(args, here, {row, rows, results + (row - row_begin) / kRows}, panel);
        }
    }
    for (uint32_t row = row_begin; row < row_end; row += kRows) {
        const uint32_t rows = row_end - row < kRows ? row_end - row : kRows;
        const auto mask = static_cast<__mmask16>((uint32_t{1} << rows) - 1);
        const uint32_t whole = rows == kRows ? tokens / kTokens * kTokens : 0;
        for (uint32_t i = whole; i < tokens; ++i) {
            float* to = args.y + size_t{first + i} * args.y_stride + row;
            _mm512_mask_storeu_ps(to, mask, _mm512_load_ps(results[(row - row_begin) / kRows][i]));
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
    _mm_sfence();  // what streams is there for whoever learns that the call is over
}

}  // namespace
}  // namespace driftwood::compute::amx
