// Rule 3: W16 weights with 16-bit activations. VPDPWSSD multiplies pairs of 16-bit numbers; the activations' digits are
// widened to 16 bits once per super-block and token.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/tiles.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kPairs = kSuperBlock / 2;

struct W16Work {
    struct Tile {
        __m512i pairs[kPairs];  // two neighbouring weights of each row
        __m512 scale;
    };

    static void load(const TileRows& rows, uint32_t super_block, uint32_t groups, Tile& tile) {
        const size_t at = super_block * sizeof(BlockW16);
        tile.scale = _mm512_castsi512_ps(load_word(rows, at));
        for (uint32_t i = 0; i < groups * kGroup / 2; i += 4) {
            load_words(rows, at + offsetof(BlockW16, n) + size_t{4} * i, tile.pairs + i);
        }
    }

    static void widen(const int8_t* digits, uint32_t count, int16_t* out) {
        for (uint32_t i = 0; i < count; i += kGroup) {
            const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(digits + i));
            _mm512_storeu_si512(out + i, _mm512_cvtepi8_epi16(bytes));
        }
    }

    static __m512i pair(const int16_t* digits, uint32_t i) {
        int32_t word = 0;
        __builtin_memcpy(&word, digits + size_t{2} * i, sizeof(word));
        return _mm512_set1_epi32(word);
    }

    template <uint32_t kTokens>
    static void add(const Tile& tile, uint32_t super_block, uint32_t groups, const Token* x, __m512* acc) {
        const size_t at = size_t{super_block} * kSuperBlock;
        const uint32_t count = groups * kGroup;
        alignas(64) int16_t digits[kTokens][2][kSuperBlock];
        __m512i high[kTokens];
        __m512i low[kTokens];
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) {
            widen(x[k].high + at, count, digits[k][0]);
            widen(x[k].low + at, count, digits[k][1]);
            high[k] = low[k] = _mm512_setzero_si512();
        }
        for (uint32_t i = 0; i < count / 2; ++i) {
            const __m512i weights = tile.pairs[i];
#pragma GCC unroll 4
            for (uint32_t k = 0; k < kTokens; ++k) {
                high[k] = _mm512_dpwssd_epi32(high[k], weights, pair(digits[k][0], i));
                low[k] = _mm512_dpwssd_epi32(low[k], weights, pair(digits[k][1], i));
            }
        }
#pragma GCC unroll 4
        for (uint32_t k = 0; k < kTokens; ++k) {
            const __m512 sum =
                _mm512_fmadd_ps(_mm512_set1_ps(256.0F), _mm512_cvtepi32_ps(high[k]), _mm512_cvtepi32_ps(low[k]));
            acc[k] = _mm512_fmadd_ps(_mm512_mul_ps(tile.scale, sum), _mm512_set1_ps(x[k].scale[super_block]), acc[k]);
        }
    }
};

}  // namespace

void linear_w16(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    walk<W16Work, ActivationKind::kA16>(args, row_begin, row_end);
}

}  // namespace driftwood::compute::avx512
