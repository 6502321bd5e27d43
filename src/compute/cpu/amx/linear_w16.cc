// Rule 3 for W16 weights and A16 activations, for many tokens. A weight is two digits with sign, as an activation is
// (|n| <= kMaxA16), so four products of tiles give both sums of a super-block, 64 values at a time. Every sum of
// products of digits stays below 2^23, and what is made of them is rule 3's A, exact in 32 bits.
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/amx/planes.h"

namespace driftwood::compute::amx {

namespace {

// Low bytes of the four 16-bit numbers that stand in pairs in two words, as one word.
__m512i low_bytes(__m512i front, __m512i back) {
    const auto two = [](__m512i pair) {
        const __m512i bytes = _mm512_and_si512(pair, _mm512_set1_epi32(0x00FF00FF));
        return _mm512_or_si512(bytes, _mm512_srli_epi32(bytes, 8));
    };
    return _mm512_or_si512(_mm512_and_si512(two(front), _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32(two(back), 16));
}

struct Digits {
    using Lanes = amx::Lanes;
    static constexpr uint32_t kPlanes = 2;
    static constexpr uint32_t kShift = 8;
    static constexpr bool kUnsigned = false;
    static constexpr bool kMin = false;
    static constexpr uint32_t kActivations = 2;

    // A block of `values` numbers; those missing are zero.
    static Scales load(const RowsOf<Lanes>& rows, uint32_t index, uint32_t values, __m512i (*words)[kBlockWords]) {
        const size_t at = index * sizeof(BlockW16);
        const __m512i half = _mm512_set1_epi16(128);
        for (uint32_t i = 0; i < kSuperBlock; i += 16) {
            __m512i pairs[8] = {};
            if (i < values) {
                Lanes::load_words(rows, at + offsetof(BlockW16, n) + size_t{2} * i, pairs);
                Lanes::load_words(rows, at + offsetof(BlockW16, n) + size_t{2} * i + 16, pairs + 4);
            }
            for (uint32_t w = 0; w < 4; ++w) {
                const __m512i front = pairs[2 * w];
                const __m512i back = pairs[2 * w + 1];
                words[0][i / 4 + w] = low_bytes(_mm512_srli_epi16(_mm512_add_epi16(front, half), 8),
                                                _mm512_srli_epi16(_mm512_add_epi16(back, half), 8));
                words[1][i / 4 + w] = low_bytes(front, back);
            }
        }
        return {.d = _mm512_castsi512_ps(Lanes::load_word(rows, at)), .dmin = _mm512_setzero_ps(), .min = {}};
    }
};

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    multiply_all<PlanesWork<Digits>>(args, row_begin, row_end);
}

}  // namespace driftwood::compute::amx
