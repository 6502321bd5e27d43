// What the AVX-512 kernels of linear layers share. Three ways through a matrix, all with its rows in the lanes of
// registers, so that each lane runs its row's float chain in the contract's order:
//
// One token streams: a weight is used once, so speed is that of memory. Weights are multiplied as they lie (VPDPBUSD of
// a row's bytes and the activations), and the partial sums, not the weights, are brought into lanes. While sixteen rows
// are computed, the sixteen that follow are asked for, line after line: the processor's own prefetchers lose the thread
// at every page and at every row.
//
// A few tokens meet the weights in registers, where they are transposed: linear_few.h.
//
// Many tokens share a slab: 32 rows of up to kSlabGroups groups, unpacked once into unsigned bytes, 32-bit word d of
// every row beside each other, small enough for the second-level cache. Then four tokens at a time go over it: a word
// of activations, broadcast, meets two registers of weights, and a register of weights meets four tokens.
//
// VPDPBUSD wants one side unsigned, so signed weights are shifted and the activations' sum times the shift is taken
// off.
#pragma once

#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

inline constexpr uint32_t kTiles = 2;                   // registers of rows in a slab
inline constexpr uint32_t kSlabRows = kTiles * kLanes;  // 32
inline constexpr uint32_t kSlabGroups = 64;             // of 32 columns
inline constexpr uint32_t kWords = kGroup / 4;          // of 32 bits in a group
inline constexpr uint32_t kSharing = 4;                 // tokens that share a register of weights
inline constexpr uint32_t kFewTokens = 16;              // too few to repay a slab
inline constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;
inline constexpr size_t kLine = 64;

namespace {  // each kernel file gets copies of its own

// The rows from `first` on; past `end` the last one again.
struct RowPointers {
    const uint8_t* at[kSlabRows];
};

[[maybe_unused]] inline RowPointers rows_from(const Linear& args, uint32_t first, uint32_t end) {
    RowPointers rows;
    for (uint32_t i = 0; i < kSlabRows; ++i) {
        const uint32_t row = first + i < end ? first + i : end - 1;
        rows.at[i] = args.weights + row * args.row_bytes;
    }
    return rows;
}

// Asks for kBytes bytes that will be read soon. They need not exist.
template <size_t kBytes>
[[gnu::always_inline, maybe_unused]] inline void prefetch(const uint8_t* at) {
#pragma GCC unroll 16
    for (size_t i = 0; i < kBytes; i += kLine) _mm_prefetch(at + i, _MM_HINT_T1);
}

// 32 bytes of each of two rows.
[[gnu::always_inline, maybe_unused]] inline __m512i load_two(const uint8_t* low, const uint8_t* high) {
    const __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low)));
    return _mm512_inserti64x4(both, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)), 1);
}

// 16 bytes of each of four rows.
[[gnu::always_inline, maybe_unused]] inline __m512i load_four(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                                                              const uint8_t* d) {
    const auto load = [](const uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); };
    __m512i all = _mm512_castsi128_si512(load(a));
    all = _mm512_inserti32x4(all, load(b), 1);
    all = _mm512_inserti32x4(all, load(c), 2);
    return _mm512_inserti32x4(all, load(d), 3);
}

// Of the rows 0, 4, 8 and 12 from row[0] on.
[[maybe_unused]] inline __m512i load_four(const uint8_t* const* row, size_t offset) {
    return load_four(row[0] + offset, row[4] + offset, row[8] + offset, row[12] + offset);
}

// Transposes the 4 x 4 words inside each 128-bit lane of four registers: out[d] has word d of the four.
[[gnu::always_inline, maybe_unused]] inline void transpose_lanes(const __m512i in[4], __m512i out[4]) {
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i c = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, b);
    out[1] = _mm512_unpackhi_epi64(a, b);
    out[2] = _mm512_unpacklo_epi64(c, d);
    out[3] = _mm512_unpackhi_epi64(c, d);
}

// From rows 0-7 and 8-15, each as words 0-3 of four rows, words 4-7 of them, and so the next four rows.
[[gnu::always_inline, maybe_unused]] inline void merge_halves(const __m512i low[4], const __m512i high[4],
                                                              __m512i words[kWords]) {
#pragma GCC unroll 4
    for (uint32_t d = 0; d < 4; ++d) {
        words[d] = _mm512_shuffle_i64x2(low[d], high[d], 0x88);
        words[d + 4] = _mm512_shuffle_i64x2(low[d], high[d], 0xDD);
    }
}

// 32 bytes of sixteen rows as eight words: words[d * stride] has word d of every row.
[[maybe_unused]] inline void transpose_rows(const uint8_t* const* row, size_t offset, __m512i words[kWords]) {
    // Pairs are chosen so that the transposed lanes come out in the order of the rows.
    __m512i in[8];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i) {
        in[i] = load_two(row[i] + offset, row[i + 4] + offset);
        in[i + 4] = load_two(row[i + 8] + offset, row[i + 12] + offset);
    }
    __m512i low[4];   // rows 0-3 and 4-7: words 0-3, words 4-7
    __m512i high[4];  // rows 8-11 and 12-15
    transpose_lanes(in, low);
    transpose_lanes(in + 4, high);
    merge_halves(low, high, words);
}

// The f16 numbers at `offset` of sixteen rows.
[[maybe_unused]] inline __m512 load_halves(const uint8_t* const* row, size_t offset) {
    alignas(32) uint16_t half[kLanes];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kLanes; ++i) __builtin_memcpy(&half[i], row[i] + offset, sizeof(half[i]));
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(half)));
}

// Four activations, for every lane.
[[maybe_unused]] inline __m512i broadcast_word(const int8_t* q) {
    int32_t word = 0;
    __builtin_memcpy(&word, q, sizeof(word));
    return _mm512_set1_epi32(word);
}

// The sums of the activations of up to 8 groups, from those of every 16 values; `groups` of them are there.
[[maybe_unused]] inline __m256i group_sums(const int32_t* sums, uint32_t groups) {
    const auto mask = static_cast<__mmask16>((uint32_t{1} << (2 * groups)) - 1);
    const __m512i halves = _mm512_maskz_loadu_epi32(mask, sums);
    const __m256i low = _mm512_castsi512_si256(halves);
    const __m256i high = _mm512_extracti64x4_epi64(halves, 1);
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xD8);
}

// A slab's product with some tokens.
template <class Slab>
struct Part {
    const Slab& slab;
    uint32_t first_row;
    uint32_t row_end;
    uint32_t first_group;
    uint32_t groups;

    // Those of the rows in tile k that are there.
    __mmask16 mask(uint32_t k) const {
        const uint32_t row = first_row + k * kLanes;
        return row < row_end ? lanes_left(row, row_end) : static_cast<__mmask16>(0);
    }
};

// Several tokens. A Kernel has a Slab; kUnitGroups and kUnitBytes, the groups and bytes that it unpacks at once;
// make(rows, offset, slab, group, tile), which does; and multiply<Tokens>(args, token, part).
template <class Kernel>
void slab_product(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    alignas(64) typename Kernel::Slab slab;
    const uint32_t row_groups = args.cols / kGroup;
    for (uint32_t r = row_begin; r < row_end; r += kSlabRows) {
        const RowPointers rows = rows_from(args, r, row_end);
        for (uint32_t first = 0; first < row_groups; first += kSlabGroups) {
            const uint32_t groups = row_groups - first < kSlabGroups ? row_groups - first : kSlabGroups;
            for (uint32_t g = 0; g < groups; g += Kernel::kUnitGroups) {
                const size_t offset = size_t{(first + g) / Kernel::kUnitGroups} * Kernel::kUnitBytes;
                for (uint32_t k = 0; k < kTiles; ++k) Kernel::make(rows.at + k * kLanes, offset, slab, g, k);
            }
            const Part<typename Kernel::Slab> part{
                .slab = slab, .first_row = r, .row_end = row_end, .first_group = first, .groups = groups};
            for (uint32_t token = 0; token < args.tokens;) {
                const uint32_t left = args.tokens - token;
                switch (left < kSharing ? left : kSharing) {
                    case 1: Kernel::template multiply<1>(args, token, part); break;
                    case 2: Kernel::template multiply<2>(args, token, part); break;
                    case 3: Kernel::template multiply<3>(args, token, part); break;
                    default: Kernel::template multiply<kSharing>(args, token, part); break;
                }
                token += left < kSharing ? left : kSharing;
            }
        }
    }
}

}  // namespace
}  // namespace driftwood::compute::avx512
