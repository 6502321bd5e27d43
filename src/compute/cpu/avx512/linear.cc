// Rule 3 for Q8_0 and Q4_0, and rule 9: rows of a Q8_0 embedding.
#include "compute/cpu/avx512/linear_few.h"

namespace driftwood::compute::avx512 {

namespace {

struct Q8_0 {
    static constexpr ActivationKind kKind = ActivationKind::kA32P;
    static constexpr uint32_t kBlockBytes = sizeof(BlockQ8_0);
    static constexpr int32_t kShift = 128;

    static __m512 scale(const uint8_t* const* row, size_t offset) { return load_halves(row, offset); }

    static void load(const uint8_t* const* row, size_t offset, __m512i words[kWords]) {
        transpose_rows(row, offset + 2, words);
#pragma GCC unroll 8
        for (uint32_t d = 0; d < kWords; ++d) words[d] = _mm512_xor_si512(words[d], _mm512_set1_epi8(-128));
    }

    template <class Rows>
    [[gnu::always_inline]] static void transpose_eight(const Rows& rows, uint32_t first, __m512i out[4]) {
        __m512i in[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) in[i] = load_two(rows[first + i] + 2, rows[first + i + 4] + 2);
        transpose_lanes(in, out);
    }

    template <class Rows>
    [[gnu::always_inline]] static void stage(const Rows& rows, uint32_t stage, Halfway& half, __m512i words[kWords]) {
        if (stage == 0) transpose_eight(rows, 0, half.a);
        if (stage == 1) transpose_eight(rows, 8, half.b);
        if (stage == 2) {
            merge_halves(half.a, half.b, words);
#pragma GCC unroll 8
            for (uint32_t d = 0; d < kWords; ++d) words[d] = _mm512_xor_si512(words[d], _mm512_set1_epi8(-128));
        }
    }
};

// Value i in the low bits of byte i, value 16 + i in the high bits.
struct Q4_0 {
    static constexpr ActivationKind kKind = ActivationKind::kA256;
    static constexpr uint32_t kBlockBytes = sizeof(BlockQ4_0);
    static constexpr int32_t kShift = 8;

    static __m512 scale(const uint8_t* const* row, size_t offset) { return load_halves(row, offset); }

    static __m512i low_half(__m512i bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
    static __m512i high_half(__m512i bytes) { return low_half(_mm512_srli_epi16(bytes, 4)); }

    static void load(const uint8_t* const* row, size_t offset, __m512i words[kWords]) {
        __m512i in[4];
        __m512i both[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) in[i] = load_four(row + i, offset + 2);
        transpose_lanes(in, both);
        split(both, words);
    }

    static void split(const __m512i both[4], __m512i words[kWords]) {
#pragma GCC unroll 4
        for (uint32_t d = 0; d < 4; ++d) {
            words[d] = low_half(both[d]);
            words[d + 4] = high_half(both[d]);
        }
    }

    template <class Rows>
    [[gnu::always_inline]] static __m512i every_fourth(const Rows& rows, uint32_t i) {
        return load_four(rows[i] + 2, rows[i + 4] + 2, rows[i + 8] + 2, rows[i + 12] + 2);
    }

    template <class Rows>
    [[gnu::always_inline]] static void stage(const Rows& rows, uint32_t stage, Halfway& half, __m512i words[kWords]) {
        if (stage == 0) half.a[0] = every_fourth(rows, 0), half.a[1] = every_fourth(rows, 1);
        if (stage == 1) {
            half.a[2] = every_fourth(rows, 2), half.a[3] = every_fourth(rows, 3);
            transpose_lanes(half.a, half.b);
        }
        if (stage == 2) split(half.b, words);
    }
};

template <class Format>
void linear_of(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    if (args.tokens <= kFewTokens && few_tokens<Format>(args, row_begin, row_end)) return;
    slab_product<Groups<Format>>(args, row_begin, row_end);
}

}  // namespace

void linear_q8_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    linear_of<Q8_0>(args, row_begin, row_end);
}

void linear_q4_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    linear_of<Q4_0>(args, row_begin, row_end);
}

// Rule 9: a row of the embedding.
void embed_q8_0(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t group = 0; group < n / kGroup; ++group) {
        const uint8_t* block = row + group * sizeof(BlockQ8_0);
        uint16_t half = 0;
        __builtin_memcpy(&half, block, sizeof(half));
        const __m512 scale = _mm512_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
        for (uint32_t i = 0; i < kGroup; i += kLanes) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2 + i));
            const __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            _mm512_storeu_ps(out + group * kGroup + i, _mm512_mul_ps(scale, value));
        }
    }
}

}  // namespace driftwood::compute::avx512
