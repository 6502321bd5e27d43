// Rule 2 and the row quantisation of rule 7 (quantise_lanes.h).
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"
#include "compute/cpu/quantise_lanes.h"

namespace driftwood::compute::avx512 {

namespace {

struct Isa {
    static constexpr uint32_t kLanes = avx512::kLanes;
    using Int = __m512i;
    using Float = __m512;

    static Float splat(float x) { return _mm512_set1_ps(x); }
    static Float load(const float* x) { return _mm512_loadu_ps(x); }
    static Float load_left(const float* x, uint32_t i, uint32_t n) {
        return _mm512_maskz_loadu_ps(lanes_left(i, n), x + i);
    }
    static Int rounded(Float x, Float factor) { return round_int(_mm512_mul_ps(x, factor)); }
    static Int clamped(Int q) {
        return _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(kMaxA8)), _mm512_set1_epi32(-kMaxA8));
    }
    static Int low_digit(Int a) { return _mm512_srai_epi32(_mm512_slli_epi32(a, 24), 24); }
    static Int high_digit(Int a) { return _mm512_srai_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(128)), 8); }

    static void store_group(const Int lanes[2], int8_t* q, int32_t* sum) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(lanes[0]));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q + kLanes), _mm512_cvtepi32_epi8(lanes[1]));
        sum[0] = reduce_add(lanes[0]);
        sum[1] = reduce_add(lanes[1]);
    }

    static void store_left(int16_t* q, uint32_t i, uint32_t n, Int lanes) {
        _mm512_mask_cvtepi32_storeu_epi16(q + i, lanes_left(i, n), lanes);
    }

    static uint32_t max_magnitude_bits(const float* x, uint32_t n) {
        Int most = _mm512_setzero_si512();
        for (uint32_t i = 0; i < n; i += kLanes) most = _mm512_max_epu32(most, magnitude_bits(load_left(x, i, n)));
        return _mm512_reduce_max_epu32(most);
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

}  // namespace driftwood::compute::avx512
