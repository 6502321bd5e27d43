// Rule 3 for W16 weights and A16 activations, for many tokens. A weight is two digits with sign, as an activation is
// (|n| <= kMaxA16), so four products of tiles give both sums of a super-block, 64 values at a time. Every sum of
// products of digits stays below 2^23, and what is made of them is rule 3's A, exact in 32 bits.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/block.h"

namespace driftwood::compute::amx {

namespace {

constexpr uint32_t kValues = 64;  // of a tile
constexpr uint32_t kSteps = kSuperBlock / kValues;

// The digits of one super-block of 16 rows, 4 values to a word.
struct Digits {
    __m512i high[kSuperBlock / 4];
    __m512i low[kSuperBlock / 4];
    __m512 scale;
};

// Low bytes of the four 16-bit numbers that stand in pairs in two words, as one word.
__m512i low_bytes(__m512i front, __m512i back) {
    const auto two = [](__m512i pair) {
        const __m512i bytes = _mm512_and_si512(pair, _mm512_set1_epi32(0x00FF00FF));
        return _mm512_or_si512(bytes, _mm512_srli_epi32(bytes, 8));
    };
    return _mm512_or_si512(_mm512_and_si512(two(front), _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32(two(back), 16));
}

// A block of `count` values; those missing are zero.
void load_digits(const RowsOf<Isa>& rows, size_t index, uint32_t count, Digits& out) {
    const size_t at = index * sizeof(BlockW16);
    const __m512i half = _mm512_set1_epi16(128);
    for (uint32_t i = 0; i < kSuperBlock; i += 16) {
        __m512i pairs[8] = {};
        if (i < count) {
            Isa::load_words(rows, at + offsetof(BlockW16, n) + size_t{2} * i, pairs);
            Isa::load_words(rows, at + offsetof(BlockW16, n) + size_t{2} * i + 16, pairs + 4);
        }
        for (uint32_t w = 0; w < 4; ++w) {
            const __m512i front = pairs[2 * w];
            const __m512i back = pairs[2 * w + 1];
            out.low[i / 4 + w] = low_bytes(front, back);
            out.high[i / 4 + w] = low_bytes(_mm512_srli_epi16(_mm512_add_epi16(front, half), 8),
                                            _mm512_srli_epi16(_mm512_add_epi16(back, half), 8));
        }
    }
    out.scale = _mm512_castsi512_ps(Isa::load_word(rows, at));
}

// Products of the weights' high or low digits by the activations', [token][row].
struct DigitSums {
    alignas(64) int32_t of[4][kTokens][kRows];  // high · high, low · high, high · low, low · low (weights first)
};

void multiply(const Plane& high, const Plane& low, const Digits& weights, DigitSums& sums) {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
    for (uint32_t step = 0; step < kSteps; ++step) {
        tile_load<4>(high.at() + size_t{kValues} * step, high.stride());
        tile_load<5>(low.at() + size_t{kValues} * step, low.stride());
        tile_load<6>(weights.high + size_t{kValues / 4} * step, sizeof(__m512i));
        tile_load<7>(weights.low + size_t{kValues / 4} * step, sizeof(__m512i));
        tile_multiply<0, 4, 6>();
        tile_multiply<1, 4, 7>();
        tile_multiply<2, 5, 6>();
        tile_multiply<3, 5, 7>();
    }
    tile_store<0>(sums.of[0], sizeof(sums.of[0][0]));
    tile_store<1>(sums.of[1], sizeof(sums.of[0][0]));
    tile_store<2>(sums.of[2], sizeof(sums.of[0][0]));
    tile_store<3>(sums.of[3], sizeof(sums.of[0][0]));
}

// A's part of one digit of the activations.
__m512 digit_sum(const int32_t* weights_high, const int32_t* weights_low) {
    const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(weights_high), 8),  //
                                         _mm512_load_si512(weights_low));
    return _mm512_cvtepi32_ps(sum);
}

void sixteen_rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens, __m512* acc) {
    const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    Digits weights;
    DigitSums sums;
    for (uint32_t b = 0; b < blocks; ++b) {
        const uint32_t begin = b * kSuperBlock;
        const uint32_t count = args.cols - begin < kSuperBlock ? args.cols - begin : kSuperBlock;
        load_digits(rows, b, count, weights);
        for (uint32_t i = 0; i < tokens; i += kTokens) {
            const uint32_t left = tokens - i < kTokens ? tokens - i : kTokens;
            const Plane high(args.x.high, args, first_token + i, left, begin, count);
            const Plane low(args.x.low, args, first_token + i, left, begin, count);
            multiply(high, low, weights, sums);
            for (uint32_t t = 0; t < left; ++t) {
                const __m512 f = _mm512_fmadd_ps(_mm512_set1_ps(256.0F), digit_sum(sums.of[0][t], sums.of[1][t]),
                                                 digit_sum(sums.of[2][t], sums.of[3][t]));
                const __m512 scale = _mm512_set1_ps(args.x.scale[(first_token + i + t) * blocks + b]);
                acc[i + t] = _mm512_fmadd_ps(_mm512_mul_ps(weights.scale, f), scale, acc[i + t]);
            }
        }
    }
}

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    by_sixteen_rows<kValues>(args, row_begin, row_end, sixteen_rows);
}

}  // namespace driftwood::compute::amx
