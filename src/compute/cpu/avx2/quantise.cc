// Rule 2 and the row quantisation of rule 7 (quantise_lanes.h).
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"
#include "compute/cpu/quantise_lanes.h"

namespace driftwood::compute::avx2 {

namespace {

struct Isa {
    static constexpr uint32_t kLanes = avx2::kLanes;
    using Int = __m256i;
    using Float = __m256;

    static Float splat(float x) { return _mm256_set1_ps(x); }
    static Float load(const float* x) { return _mm256_loadu_ps(x); }
    static Float load_left(const float* x, uint32_t i, uint32_t n) {
        return _mm256_maskload_ps(x + i, lanes_left(i, n));
    }
    static Int rounded(Float x, Float factor) { return round_int(_mm256_mul_ps(x, factor)); }
    static Int clamped(Int q) {
        return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(kMaxA8)), _mm256_set1_epi32(-kMaxA8));
    }
    static Int low_digit(Int a) { return _mm256_srai_epi32(_mm256_slli_epi32(a, 24), 24); }
    static Int high_digit(Int a) { return _mm256_srai_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(128)), 8); }

    // Packing works inside 128 bits: words come out in the order 0, 2, 4, 6, 1, 3, 5, 7.
    static void store_group(const Int lanes[4], int8_t* q, int32_t* sum) {
        const Int packed =
            _mm256_packs_epi16(_mm256_packs_epi32(lanes[0], lanes[1]), _mm256_packs_epi32(lanes[2], lanes[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                            _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
        sum[0] = reduce_add(_mm256_add_epi32(lanes[0], lanes[1]));
        sum[1] = reduce_add(_mm256_add_epi32(lanes[2], lanes[3]));
    }

    static void store_left(int16_t* q, uint32_t i, uint32_t n, Int lanes) {
        // At most ±32767 where the row is finite: packing saturates nothing.
        const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
        if (n - i >= kLanes) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), packed);
            return;
        }
        int16_t last[kLanes];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(last), packed);
        for (uint32_t l = 0; l < n - i; ++l) q[i + l] = last[l];
    }

    static uint32_t max_magnitude_bits(const float* x, uint32_t n) {
        Int most = _mm256_setzero_si256();
        for (uint32_t i = 0; i < n; i += kLanes) most = _mm256_max_epu32(most, magnitude_bits(load_left(x, i, n)));
        return reduce_max(most);
    }
};

}  // namespace

bool quantise_a32p(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a32p(x, n, out); }
bool quantise_a256(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a256(x, n, out); }
bool quantise_a16(const float* x, uint32_t n, const ActivationRow& out) { return Quantise<Isa>::a16(x, n, out); }
bool quantise_16(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
    return Quantise<Isa>::row(x, n, max, q, scale);
}
bool all_finite(const float* x, uint32_t n) { return Isa::max_magnitude_bits(x, n) < kInfinityBits; }

}  // namespace driftwood::compute::avx2
