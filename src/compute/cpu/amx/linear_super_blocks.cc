// Rule 3 for weights whose super-blocks have integer scales (Q4_K, Q5_K, Q6_K, Q4S), for many tokens.
//
// A tile multiplies 16 tokens by 16 rows of the matrix over one part that shares a scale. The sums of a super-block's
// parts are stored one after another; then each token multiplies them by the scales, a row per lane, and adds up, all
// of it exact in 32 bits. Weights are unpacked once for all tokens of the call. Few tokens are the AVX-512 kernels'
// work.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/block.h"
#include "compute/cpu/amx/panels.h"

namespace driftwood::compute::amx {

namespace {

// One super-block of 16 rows.
template <uint32_t kParts>
struct SuperBlock {
    __m512i words[kSuperBlock / 4];
    __m512i scale[kParts];
    __m512i min[kGroupsPerSuperBlock];  // of types with minima
    __m512 d;
    __m512 dmin;
};

// ---- formats

__m512i low_bits(__m512i x, int32_t mask) { return _mm512_and_si512(x, _mm512_set1_epi32(mask)); }

// Scales and minima of Q4_K and Q5_K (formats.h), 12 bytes per row.
void load_scales(const Rows& rows, size_t at, __m512i scale[8], __m512i min[8]) {
    const __m512i s0 = load_word(rows, at);
    const __m512i s1 = load_word(rows, at + 4);
    const __m512i s2 = load_word(rows, at + 8);
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; ++j) {
        const uint32_t byte = 8 * j;
        scale[j] = low_bits(_mm512_srli_epi32(s0, byte), 63);
        min[j] = low_bits(_mm512_srli_epi32(s1, byte), 63);
        const __m512i scale_top = _mm512_slli_epi32(low_bits(_mm512_srli_epi32(s0, byte + 6), 3), 4);
        const __m512i min_top = _mm512_slli_epi32(low_bits(_mm512_srli_epi32(s1, byte + 6), 3), 4);
        scale[j + 4] = _mm512_or_si512(low_bits(_mm512_srli_epi32(s2, byte), 15), scale_top);
        min[j + 4] = _mm512_or_si512(low_bits(_mm512_srli_epi32(s2, byte + 4), 15), min_top);
    }
}

// Groups 2p and 2p + 1 in the low and high bits of the same 32 bytes, `at` + 32 p.
void load_pairs(const Rows& rows, size_t at, __m512i* words) {
    for (size_t p = 0; p < 4; ++p) {
        __m512i packed[kWords];
        load_words(rows, at + p * kGroup, packed);
        load_words(rows, at + p * kGroup + 16, packed + 4);
#pragma GCC unroll 8
        for (uint32_t w = 0; w < kWords; ++w) {
            words[2 * p * kWords + w] = low_nibbles(packed[w]);
            words[(2 * p + 1) * kWords + w] = high_nibbles(packed[w]);
        }
    }
}

struct Q4_K {
    static constexpr uint32_t kBytes = sizeof(BlockQ4_K);
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = true;
    static void load(const Rows& rows, size_t at, SuperBlock<kParts>& out) {
        load_pairs(rows, at + offsetof(BlockQ4_K, n), out.words);
        load_scales(rows, at + offsetof(BlockQ4_K, scales), out.scale, out.min);
        const __m512i both = load_word(rows, at);
        out.d = low_half(both);
        out.dmin = high_half(both);
    }
};

struct Q5_K {
    static constexpr uint32_t kBytes = sizeof(BlockQ5_K);
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = true;
    static void load(const Rows& rows, size_t at, SuperBlock<kParts>& out) {
        load_pairs(rows, at + offsetof(BlockQ5_K, n), out.words);
        __m512i high[kWords];
        load_words(rows, at + offsetof(BlockQ5_K, high), high);
        load_words(rows, at + offsetof(BlockQ5_K, high) + 16, high + 4);
        for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
#pragma GCC unroll 8
            for (uint32_t w = 0; w < kWords; ++w) {
                const __m512i bit = _mm512_and_si512(_mm512_srli_epi32(high[w], j), _mm512_set1_epi8(1));
                __m512i& word = out.words[j * kWords + w];
                word = _mm512_or_si512(word, _mm512_slli_epi32(bit, 4));
            }
        }
        load_scales(rows, at + offsetof(BlockQ5_K, scales), out.scale, out.min);
        const __m512i both = load_word(rows, at);
        out.d = low_half(both);
        out.dmin = high_half(both);
    }
};

struct Q6_K {
    static constexpr uint32_t kBytes = sizeof(BlockQ6_K);
    static constexpr uint32_t kParts = 16;
    static constexpr bool kHasMin = false;
    static void load(const Rows& rows, size_t at, SuperBlock<kParts>& out) {
        for (uint32_t half = 0; half < 2; ++half) {
            __m512i low[2 * kWords];
            __m512i high[kWords];
            for (uint32_t i = 0; i < 4; ++i) {
                load_words(rows, at + offsetof(BlockQ6_K, low) + size_t{64} * half + size_t{16} * i,
                           low + size_t{4} * i);
            }
            load_words(rows, at + offsetof(BlockQ6_K, high) + size_t{32} * half, high);
            load_words(rows, at + offsetof(BlockQ6_K, high) + size_t{32} * half + 16, high + 4);
            for (uint32_t g = 0; g < 4; ++g) {
#pragma GCC unroll 8
                for (uint32_t w = 0; w < kWords; ++w) {
                    const __m512i packed = low[(g % 2) * kWords + w];
                    const __m512i bits = _mm512_and_si512(_mm512_srli_epi32(high[w], 2 * g), _mm512_set1_epi8(3));
                    const __m512i n =
                        _mm512_or_si512(g < 2 ? low_nibbles(packed) : high_nibbles(packed), _mm512_slli_epi32(bits, 4));
                    out.words[(4 * half + g) * kWords + w] = _mm512_sub_epi8(n, _mm512_set1_epi8(32));
                }
            }
        }
        for (uint32_t i = 0; i < 4; ++i) {
            const __m512i four = load_word(rows, at + offsetof(BlockQ6_K, scales) + size_t{4} * i);
            for (uint32_t k = 0; k < 4; ++k) {
                out.scale[4 * i + k] = _mm512_srai_epi32(_mm512_slli_epi32(four, 24 - 8 * k), 24);
            }
        }
        // d stands at the end: the word that ends with it.
        out.d = high_half(load_word(rows, at + offsetof(BlockQ6_K, d) - 2));
    }
};

struct Q4S {
    static constexpr uint32_t kBytes = sizeof(BlockQ4S);
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = false;
    static void load(const Rows& rows, size_t at, SuperBlock<kParts>& out) {
        const __m512i scales = load_word(rows, at + offsetof(BlockQ4S, scales));
        for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
            load_nibbles(rows, at + offsetof(BlockQ4S, n) + size_t{16} * j, out.words + size_t{j} * kWords);
            subtract(8, out.words + size_t{j} * kWords);
            out.scale[j] = low_bits(_mm512_srli_epi32(scales, 4 * j), 15);
        }
        out.d = low_half(load_word(rows, at));
    }
};

// ---- 16 rows

// A, or one digit's part of it, of one token.
template <uint32_t kParts>
__m512 scaled_sum(const PartSums<kParts>& sums, uint32_t token, const SuperBlock<kParts>& block) {
    __m512i total = _mm512_setzero_si512();
    for (uint32_t part = 0; part < kParts; ++part) {
        const __m512i sum = _mm512_load_si512(sums.of[part][token]);
        total = _mm512_add_epi32(total, _mm512_mullo_epi32(block.scale[part], sum));
    }
    return _mm512_cvtepi32_ps(total);
}

// B of one token.
template <ActivationKind kKind, uint32_t kParts>
__m512 minima(const Linear& args, uint32_t token, uint32_t index, const SuperBlock<kParts>& block) {
    const size_t first = size_t{token} * (args.cols / 16) + size_t{index} * (kSuperBlock / 16);
    __m512i total = _mm512_setzero_si512();
    for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
        int32_t s = group_sum(args.x.high_sum + first, j);
        if constexpr (kKind == ActivationKind::kA16) s = 256 * s + group_sum(args.x.low_sum + first, j);
        total = _mm512_add_epi32(total, _mm512_mullo_epi32(block.min[j], _mm512_set1_epi32(s)));
    }
    return _mm512_cvtepi32_ps(total);
}

// Adds to acc[i], for the tokens from `first_token` on.
template <class Format, ActivationKind kKind>
void sixteen_rows(const Linear& args, const Rows& rows, uint32_t first_token, uint32_t tokens, __m512* acc) {
    constexpr uint32_t kParts = Format::kParts;
    constexpr size_t kPartBytes = sizeof(__m512i) * (kSuperBlock / kParts / 4);
    SuperBlock<kParts> block;
    PartSums<kParts> high;
    PartSums<kParts> low;
    const uint32_t blocks = args.cols / kSuperBlock;
    for (uint32_t b = 0; b < blocks; ++b) {
        Format::load(rows, size_t{b} * Format::kBytes, block);
        for (uint32_t i = 0; i < tokens; i += kTokens) {
            const uint32_t left = tokens - i < kTokens ? tokens - i : kTokens;
            const Plane plane(args.x.high, args, first_token + i, left, b * kSuperBlock, kSuperBlock);
            multiply(plane.at(), plane.stride(), block.words, kPartBytes, kParts, high);
            if constexpr (kKind == ActivationKind::kA16) {
                const Plane low_plane(args.x.low, args, first_token + i, left, b * kSuperBlock, kSuperBlock);
                multiply(low_plane.at(), low_plane.stride(), block.words, kPartBytes, kParts, low);
            }
            for (uint32_t t = 0; t < left; ++t) {
                const uint32_t token = first_token + i + t;
                __m512 f = scaled_sum(high, t, block);
                if constexpr (kKind == ActivationKind::kA16) {
                    f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), f, scaled_sum(low, t, block));
                }
                __m512 sum;
                if constexpr (Format::kHasMin) {
                    const __m512 taken = _mm512_mul_ps(block.dmin, minima<kKind>(args, token, b, block));
                    sum = _mm512_fmsub_ps(block.d, f, taken);
                } else {
                    sum = _mm512_mul_ps(block.d, f);
                }
                const __m512 scale = _mm512_set1_ps(args.x.scale[size_t{token} * blocks + b]);
                acc[i + t] = _mm512_fmadd_ps(sum, scale, acc[i + t]);
            }
        }
    }
}

template <class Format, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    by_sixteen_rows<kSuperBlock / Format::kParts>(args, row_begin, row_end, sixteen_rows<Format, kKind>);
}

// The kernel of `kNarrow` or of 16-bit activations.
template <class Format, ActivationKind kNarrow>
LinearKernel of(ActivationKind kind) {
    if (kind == kNarrow) return linear<Format, kNarrow>;
    return kind == ActivationKind::kA16 ? linear<Format, ActivationKind::kA16> : nullptr;
}

}  // namespace

LinearKernel super_blocks_kernel(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return of<Q4_K, ActivationKind::kA256>(kind);
        case WeightType::kQ5_K: return of<Q5_K, ActivationKind::kA256>(kind);
        case WeightType::kQ6_K: return of<Q6_K, ActivationKind::kA256>(kind);
        case WeightType::kQ4S: return of<Q4S, ActivationKind::kA256>(kind);
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::amx
