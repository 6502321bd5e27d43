// Rule 3: weights in super-blocks of 256 with integer scales: Q4_K, Q5_K, Q6_K, Q4S.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/tiles.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kSuperWords = kSuperBlock / 4;

// One super-block of 16 rows.
struct SuperTile {
    __m512i words[kSuperWords];  // unsigned bytes
    __m512i scale[kSuperBlock / kSumGroup];
    __m512i min[kGroupsPerSuperBlock];
    __m512 d;
    __m512 dmin;
};

// The packed scales and minima of Q4_K and Q5_K (formats.h).
void unpack_scales(const TileRows& rows, size_t at, SuperTile& tile) {
    const __m512i s0 = load_word(rows, at);
    const __m512i s1 = load_word(rows, at + 4);
    const __m512i s2 = load_word(rows, at + 8);
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; ++j) {
        tile.scale[j] = bits_at(s0, 8 * j, 6);
        tile.min[j] = bits_at(s1, 8 * j, 6);
        tile.scale[j + 4] = _mm512_or_si512(bits_at(s2, 8 * j, 4), _mm512_slli_epi32(bits_at(s0, 8 * j + 6, 2), 4));
        tile.min[j + 4] = _mm512_or_si512(bits_at(s2, 8 * j + 4, 4), _mm512_slli_epi32(bits_at(s1, 8 * j + 6, 2), 4));
    }
}

// The low 4 bits of Q4_K and Q5_K.
void unpack_nibbles(const TileRows& rows, size_t at, SuperTile& tile) {
    for (uint32_t pair = 0; pair < kGroupsPerSuperBlock / 2; ++pair) {
        __m512i* words = tile.words + size_t{pair} * 2 * kWords;
        __m512i both[kWords];
        load_words(rows, at + size_t{pair} * kGroup, both);
        load_words(rows, at + size_t{pair} * kGroup + 16, both + 4);
#pragma GCC unroll 8
        for (uint32_t k = 0; k < kWords; ++k) {
            words[k] = low_nibbles(both[k]);
            words[k + kWords] = high_nibbles(both[k]);
        }
    }
}

struct Q4_K {
    static constexpr int32_t kShift = 0;
    static constexpr uint32_t kScaleGroup = kGroup;  // values that share a scale
    static constexpr bool kMin = true;
    static void unpack(const TileRows& rows, uint32_t block, SuperTile& tile) {
        const size_t at = block * sizeof(BlockQ4_K);
        unpack_nibbles(rows, at + offsetof(BlockQ4_K, n), tile);
        unpack_scales(rows, at + offsetof(BlockQ4_K, scales), tile);
        const __m512i both = load_word(rows, at);
        tile.d = low_half(both);
        tile.dmin = high_half(both);
    }
};

struct Q5_K {
    static constexpr int32_t kShift = 0;
    static constexpr uint32_t kScaleGroup = kGroup;
    static constexpr bool kMin = true;
    static void unpack(const TileRows& rows, uint32_t block, SuperTile& tile) {
        const size_t at = block * sizeof(BlockQ5_K);
        unpack_nibbles(rows, at + offsetof(BlockQ5_K, n), tile);
        unpack_scales(rows, at + offsetof(BlockQ5_K, scales), tile);
        const __m512i both = load_word(rows, at);
        tile.d = low_half(both);
        tile.dmin = high_half(both);
        __m512i high[kWords];
        load_words(rows, at + offsetof(BlockQ5_K, high), high);
        load_words(rows, at + offsetof(BlockQ5_K, high) + 16, high + 4);
        const __m512i one = _mm512_set1_epi8(1);
        for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
#pragma GCC unroll 8
            for (uint32_t k = 0; k < kWords; ++k) {
                const __m512i bit = _mm512_and_si512(_mm512_srli_epi32(high[k], j), one);
                __m512i& words = tile.words[size_t{j} * kWords + k];
                words = _mm512_or_si512(words, _mm512_slli_epi32(bit, 4));
            }
        }
    }
};

struct Q6_K {
    static constexpr int32_t kShift = 32;
    static constexpr uint32_t kScaleGroup = 16;
    static constexpr bool kMin = false;
    static void unpack(const TileRows& rows, uint32_t block, SuperTile& tile) {
        const size_t at = block * sizeof(BlockQ6_K);
        for (uint32_t half = 0; half < 2; ++half) {
            __m512i low[2 * kWords];
            __m512i high[kWords];
            for (uint32_t i = 0; i < 4; ++i) {
                load_words(rows, at + offsetof(BlockQ6_K, low) + size_t{64} * half + size_t{16} * i,
                           low + size_t{4} * i);
            }
            for (uint32_t i = 0; i < 2; ++i) {
                load_words(rows, at + offsetof(BlockQ6_K, high) + size_t{32} * half + size_t{16} * i,
                           high + size_t{4} * i);
            }
            for (uint32_t g = 0; g < 4; ++g) {
                __m512i* words = tile.words + size_t{4 * half + g} * kWords;
                for (uint32_t k = 0; k < kWords; ++k) {
                    const __m512i both = low[(g % 2) * kWords + k];
                    const __m512i top = _mm512_and_si512(_mm512_srli_epi32(high[k], 2 * g), _mm512_set1_epi8(3));
                    words[k] =
                        _mm512_or_si512(g < 2 ? low_nibbles(both) : high_nibbles(both), _mm512_slli_epi32(top, 4));
                }
            }
        }
        __m512i scales[4];
        load_words(rows, at + offsetof(BlockQ6_K, scales), scales);
        for (uint32_t i = 0; i < 16; ++i) {
            tile.scale[i] = _mm512_srai_epi32(_mm512_slli_epi32(scales[i / 4], 24 - 8 * (i % 4)), 24);
        }
        // The last two bytes of the block: a whole word from there on would leave it.
        tile.d = high_half(load_word(rows, at + offsetof(BlockQ6_K, d) - 2));
    }
};

struct Q4S {
    static constexpr int32_t kShift = 8;
    static constexpr uint32_t kScaleGroup = kGroup;
    static constexpr bool kMin = false;
    static void unpack(const TileRows& rows, uint32_t block, SuperTile& tile) {
        const size_t at = block * sizeof(BlockQ4S);
        const __m512i scales = load_word(rows, at + offsetof(BlockQ4S, scales));
        for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
            __m512i both[4];
            load_words(rows, at + offsetof(BlockQ4S, n) + size_t{16} * j, both);
            __m512i* words = tile.words + size_t{j} * kWords;
#pragma GCC unroll 4
            for (uint32_t k = 0; k < 4; ++k) {
                words[k] = low_nibbles(both[k]);
                words[k + 4] = high_nibbles(both[k]);
            }
            tile.scale[j] = bits_at(scales, 4 * j, 4);
        }
        tile.d = low_half(load_word(rows, at));
    }
};

template <class Format, ActivationKind kKind>
struct SuperWork {
    using Tile = SuperTile;
    static constexpr uint32_t kScales = kSuperBlock / Format::kScaleGroup;
    static constexpr uint32_t kScaleWords = Format::kScaleGroup / 4;
    static constexpr uint32_t kScaleSums = Format::kScaleGroup / kSumGroup;

    static void load(const TileRows& rows, uint32_t super_block, uint32_t, Tile& tile) {
        Format::unpack(rows, super_block, tile);
    }

    // Scale group g's part of A, from one plane of digits.
    static __m512i scaled(const Tile& tile, uint32_t g, const int8_t* q, const int32_t* sums) {
        int32_t shift = 0;
        if constexpr (Format::kShift != 0) {
            for (uint32_t i = 0; i < kScaleSums; ++i) shift -= Format::kShift * sums[g * kScaleSums + i];
        }
        const __m512i product =
            dot<kScaleWords>(tile.words + size_t{g} * kScaleWords, q + size_t{g} * Format::kScaleGroup, shift);
        return _mm512_mullo_epi32(tile.scale[g], product);
    }

    // Σ min · S over the groups of 32.
    static __m512 minima(const Tile& tile, const Token& x, uint32_t super_block) {
        const int32_t* high = x.high_sum + size_t{super_block} * 16;
        __m512i total = _mm512_setzero_si512();
        for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
            int32_t sum = high[2 * j] + high[2 * j + 1];
            if constexpr (kKind == ActivationKind::kA16) {
                const int32_t* low = x.low_sum + size_t{super_block} * 16;
                sum = 256 * sum + low[2 * j] + low[2 * j + 1];
            }
            total = _mm512_add_epi32(total, _mm512_mullo_epi32(tile.min[j], _mm512_set1_epi32(sum)));
        }
        return _mm512_cvtepi32_ps(total);
    }

    template <uint32_t kTokens>
    static void add(const Tile& tile, uint32_t super_block, uint32_t, const Token* x, __m512* acc) {
        const size_t at = size_t{super_block} * kSuperBlock;
        const size_t sums = at / kSumGroup;
        __m512i high[kTokens];
        __m512i low[kTokens];
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) high[k] = low[k] = _mm512_setzero_si512();
        for (uint32_t g = 0; g < kScales; ++g) {
#pragma GCC unroll 4
            for (uint32_t k = 0; k < kTokens; ++k) {
                high[k] = _mm512_add_epi32(high[k], scaled(tile, g, x[k].high + at, x[k].high_sum + sums));
                if constexpr (kKind == ActivationKind::kA16) {
                    low[k] = _mm512_add_epi32(low[k], scaled(tile, g, x[k].low + at, x[k].low_sum + sums));
                }
            }
        }
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) {
            __m512 f = _mm512_cvtepi32_ps(high[k]);
            if constexpr (kKind == ActivationKind::kA16) {
                f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), f, _mm512_cvtepi32_ps(low[k]));
            }
            __m512 t;
            if constexpr (Format::kMin) {
                t = _mm512_fmsub_ps(tile.d, f, _mm512_mul_ps(tile.dmin, minima(tile, x[k], super_block)));
            } else {
                t = _mm512_mul_ps(tile.d, f);
            }
            acc[k] = _mm512_fmadd_ps(t, _mm512_set1_ps(x[k].scale[super_block]), acc[k]);
        }
    }
};

template <class Format, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    walk<SuperWork<Format, kKind>, kKind>(args, row_begin, row_end);
}

}  // namespace

LinearKernel linear_super_blocks(WeightType type, ActivationKind kind) {
    constexpr auto kA256 = ActivationKind::kA256;
    constexpr auto kA16 = ActivationKind::kA16;
    if (kind == ActivationKind::kA32P) return nullptr;
    const bool wide = kind == kA16;
    switch (type) {
        case WeightType::kQ4_K: return wide ? linear<Q4_K, kA16> : linear_q4_k;
        case WeightType::kQ5_K: return wide ? linear<Q5_K, kA16> : linear<Q5_K, kA256>;
        case WeightType::kQ6_K: return wide ? linear<Q6_K, kA16> : linear<Q6_K, kA256>;
        case WeightType::kQ4S: return wide ? linear<Q4S, kA16> : linear<Q4S, kA256>;
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::avx512
