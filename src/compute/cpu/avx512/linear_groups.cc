// Rule 3: weights in groups of 32 with a float scale each: Q4_0, Q4_1, Q5_0, Q5_1, and Q8_0 with 16-bit activations.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/tiles.h"

namespace driftwood::compute::avx512 {

namespace {

// A format unpacks one group of 16 rows: unsigned bytes, scale and (kMin) minimum.

void unpack_nibbles(const TileRows& rows, size_t offset, __m512i words[kWords]) {
    __m512i both[4];
    load_words(rows, offset, both);
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; ++k) {
        words[k] = low_nibbles(both[k]);
        words[k + 4] = high_nibbles(both[k]);
    }
}

// Adds 16 where the row's bit is set: bit i of its word belongs to value i.
void add_fifth_bits(__m512i high, __m512i words[kWords]) {
#pragma GCC unroll 4
    for (uint32_t b = 0; b < 4; ++b) {
        // Byte b of each row's word, four times; its low four bits serve word 2 b, the others word 2 b + 1.
        const auto index = static_cast<int32_t>(b * 0x01010101U);
        const __m512i rows_0 = _mm512_setr_epi32(index, index + 0x04040404, index + 0x08080808, index + 0x0C0C0C0C,  //
                                                 index, index + 0x04040404, index + 0x08080808, index + 0x0C0C0C0C,  //
                                                 index, index + 0x04040404, index + 0x08080808, index + 0x0C0C0C0C,  //
                                                 index, index + 0x04040404, index + 0x08080808, index + 0x0C0C0C0C);
        const __m512i spread = _mm512_shuffle_epi8(high, rows_0);
        const __m512i low_bits = _mm512_set1_epi32(0x08040201);
        const __m512i high_bits = _mm512_slli_epi32(low_bits, 4);
        const __mmask64 low = _mm512_test_epi8_mask(spread, low_bits);
        const __mmask64 top = _mm512_test_epi8_mask(spread, high_bits);
        const __m512i sixteen = _mm512_set1_epi8(16);
        words[2 * b] = _mm512_mask_add_epi8(words[2 * b], low, words[2 * b], sixteen);
        words[2 * b + 1] = _mm512_mask_add_epi8(words[2 * b + 1], top, words[2 * b + 1], sixteen);
    }
}

struct Q4_0 {
    using Block = BlockQ4_0;
    static constexpr int32_t kShift = 8;
    static constexpr bool kMin = false;
    static void unpack(const TileRows& rows, size_t at, __m512i words[kWords], __m512& d, __m512&) {
        unpack_nibbles(rows, at + offsetof(Block, n), words);
        d = low_half(load_word(rows, at));
    }
};

struct Q4_1 {
    using Block = BlockQ4_1;
    static constexpr int32_t kShift = 0;
    static constexpr bool kMin = true;
    static void unpack(const TileRows& rows, size_t at, __m512i words[kWords], __m512& d, __m512& m) {
        unpack_nibbles(rows, at + offsetof(Block, n), words);
        const __m512i both = load_word(rows, at);
        d = low_half(both);
        m = high_half(both);
    }
};

struct Q5_0 {
    using Block = BlockQ5_0;
    static constexpr int32_t kShift = 16;
    static constexpr bool kMin = false;
    static void unpack(const TileRows& rows, size_t at, __m512i words[kWords], __m512& d, __m512&) {
        unpack_nibbles(rows, at + offsetof(Block, n), words);
        add_fifth_bits(load_word(rows, at + offsetof(Block, high)), words);
        d = low_half(load_word(rows, at));
    }
};

struct Q5_1 {
    using Block = BlockQ5_1;
    static constexpr int32_t kShift = 0;
    static constexpr bool kMin = true;
    static void unpack(const TileRows& rows, size_t at, __m512i words[kWords], __m512& d, __m512& m) {
        unpack_nibbles(rows, at + offsetof(Block, n), words);
        add_fifth_bits(load_word(rows, at + offsetof(Block, high)), words);
        const __m512i both = load_word(rows, at);
        d = low_half(both);
        m = high_half(both);
    }
};

struct Q8_0 {
    using Block = BlockQ8_0;
    static constexpr int32_t kShift = 128;
    static constexpr bool kMin = false;
    static void unpack(const TileRows& rows, size_t at, __m512i words[kWords], __m512& d, __m512&) {
        load_words(rows, at + offsetof(Block, n), words);
        load_words(rows, at + offsetof(Block, n) + 16, words + 4);
#pragma GCC unroll 8
        for (uint32_t k = 0; k < kWords; ++k) words[k] = _mm512_xor_si512(words[k], _mm512_set1_epi8(-128));
        d = low_half(load_word(rows, at));
    }
};

template <class Format, ActivationKind kKind>
struct GroupWork {
    struct Tile {
        __m512i words[kGroupsPerSuperBlock][kWords];
        __m512 d[kGroupsPerSuperBlock];
        __m512 m[kGroupsPerSuperBlock];
    };

    static void load(const TileRows& rows, uint32_t super_block, uint32_t groups, Tile& tile) {
        for (uint32_t j = 0; j < groups; ++j) {
            const size_t block = size_t{super_block} * kGroupsPerSuperBlock + j;
            Format::unpack(rows, block * sizeof(typename Format::Block), tile.words[j], tile.d[j], tile.m[j]);
        }
    }

    // Two neighbouring sums of 16 values.
    static int32_t group_sum(const int32_t* sums, uint32_t group) { return sums[2 * group] + sums[2 * group + 1]; }

    template <uint32_t kTokens>
    static void add(const Tile& tile, uint32_t super_block, uint32_t groups, const Token* x, __m512* acc) {
        __m512 t[kTokens];
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) t[k] = _mm512_setzero_ps();
        for (uint32_t j = 0; j < groups; ++j) {
            const uint32_t group = super_block * kGroupsPerSuperBlock + j;
            const size_t at = size_t{group} * kGroup;
#pragma GCC unroll 4
            for (uint32_t k = 0; k < kTokens; ++k) {
                int32_t sum = group_sum(x[k].high_sum, group);
                __m512i product = dot<kWords>(tile.words[j], x[k].high + at, -Format::kShift * sum);
                if constexpr (kKind == ActivationKind::kA16) {
                    const int32_t low_sum = group_sum(x[k].low_sum, group);
                    const __m512i low = dot<kWords>(tile.words[j], x[k].low + at, -Format::kShift * low_sum);
                    product = _mm512_add_epi32(_mm512_slli_epi32(product, 8), low);
                    sum = 256 * sum + low_sum;
                }
                t[k] = _mm512_fmadd_ps(tile.d[j], _mm512_cvtepi32_ps(product), t[k]);
                if constexpr (Format::kMin) {
                    t[k] = _mm512_fmadd_ps(tile.m[j], _mm512_set1_ps(static_cast<float>(sum)), t[k]);
                }
            }
        }
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) {
            acc[k] = _mm512_fmadd_ps(t[k], _mm512_set1_ps(x[k].scale[super_block]), acc[k]);
        }
    }
};

template <class Format, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    walk<GroupWork<Format, kKind>, kKind>(args, row_begin, row_end);
}

}  // namespace

LinearKernel linear_groups(WeightType type, ActivationKind kind) {
    constexpr auto kA256 = ActivationKind::kA256;
    constexpr auto kA16 = ActivationKind::kA16;
    if (kind == ActivationKind::kA32P) return nullptr;
    const bool wide = kind == kA16;
    switch (type) {
        case WeightType::kQ4_0: return wide ? linear<Q4_0, kA16> : linear_q4_0;
        case WeightType::kQ4_1: return wide ? linear<Q4_1, kA16> : linear<Q4_1, kA256>;
        case WeightType::kQ5_0: return wide ? linear<Q5_0, kA16> : linear<Q5_0, kA256>;
        case WeightType::kQ5_1: return wide ? linear<Q5_1, kA16> : linear<Q5_1, kA256>;
        case WeightType::kQ8_0: return wide ? linear<Q8_0, kA16> : nullptr;
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::avx512
