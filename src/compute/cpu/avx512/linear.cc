// Rule 3 for Q8_0 and Q4_0, and rule 9: rows of a Q8_0 embedding.
#include "compute/cpu/avx512/linear_groups.h"

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

    static __m512i dot(const uint8_t* const* row, size_t offset, const int8_t* q) {
        const __m512i x = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
        const __m512i flip = _mm512_set1_epi8(-128);
        __m512i part[8];
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t low = i < 4 ? i : i + 4;
            const __m512i weights = load_two(row[low] + offset + 2, row[low + 4] + offset + 2);
            part[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_xor_si512(weights, flip), x);
        }
        return fold_halves(part);
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
#pragma GCC unroll 4
        for (uint32_t d = 0; d < 4; ++d) {
            words[d] = low_half(both[d]);
            words[d + 4] = high_half(both[d]);
        }
    }

    static __m512i dot(const uint8_t* const* row, size_t offset, const int8_t* q) {
        const auto broadcast = [&](uint32_t i) {
            return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i)));
        };
        const __m512i x_low = broadcast(0);
        const __m512i x_high = broadcast(16);
        __m512i part[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            const __m512i both = load_four(row + i, offset + 2);
            part[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low_half(both), x_low);
            part[i] = _mm512_dpbusd_epi32(part[i], high_half(both), x_high);
        }
        return fold_lanes(part);
    }
};

}  // namespace

void linear_q8_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    linear_groups<Q8_0>(args, row_begin, row_end);
}

void linear_q4_0(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    linear_groups<Q4_0>(args, row_begin, row_end);
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
