// Rule 5: RoPE, 16 pairs at a time.
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

struct Pairs {
    __m512 x0;
    __m512 x1;
};

Pairs turn(Pairs x, __m512 c, __m512 s) {
    return {_mm512_fnmadd_ps(x.x1, s, _mm512_mul_ps(x.x0, c)), _mm512_fmadd_ps(x.x1, c, _mm512_mul_ps(x.x0, s))};
}

}  // namespace

void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    const __m512i front = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i back = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    for (uint32_t i = 0; i < head_dim / 2; i += kLanes) {
        const __mmask16 mask = lanes_left(i, head_dim / 2);
        const uint32_t values = 2 * static_cast<uint32_t>(__builtin_popcount(mask));
        const __mmask16 front_mask = values >= kLanes ? first_lanes(kLanes) : first_lanes(values);
        const __mmask16 back_mask = values >= kLanes ? first_lanes(values - kLanes) : first_lanes(0);
        float* x = head + 2 * i;
        const __m512 low = _mm512_maskz_loadu_ps(front_mask, x);
        const __m512 high = _mm512_maskz_loadu_ps(back_mask, x + kLanes);
        const Pairs in{_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
        const Pairs out = turn(in, _mm512_maskz_loadu_ps(mask, cosine + i), _mm512_maskz_loadu_ps(mask, sine + i));
        _mm512_mask_storeu_ps(x, front_mask, _mm512_permutex2var_ps(out.x0, front, out.x1));
        _mm512_mask_storeu_ps(x + kLanes, back_mask, _mm512_permutex2var_ps(out.x0, back, out.x1));
    }
}

void rope_halves(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    const uint32_t half = head_dim / 2;
    for (uint32_t i = 0; i < half; i += kLanes) {
        const Pairs in{Lanes::load_left(head, i, half), Lanes::load_left(head + half, i, half)};
        const Pairs out = turn(in, Lanes::load_left(cosine, i, half), Lanes::load_left(sine, i, half));
        Lanes::store_left(head, i, half, out.x0);
        Lanes::store_left(head + half, i, half, out.x1);
    }
}

}  // namespace driftwood::compute::avx512
