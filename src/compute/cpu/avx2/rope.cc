// Rule 5: RoPE, 8 pairs at a time.
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

struct Pairs {
    __m256 x0;
    __m256 x1;
};

Pairs turn(Pairs x, __m256 c, __m256 s) {
    return {_mm256_fnmadd_ps(x.x1, s, _mm256_mul_ps(x.x0, c)), _mm256_fmadd_ps(x.x1, c, _mm256_mul_ps(x.x0, s))};
}

// Shuffles stay inside 128 bits: they bring pairs 0, 1, 4, 5 | 2, 3, 6, 7 of eight. The angles follow.
__m256 in_shuffled_order(__m256 angles) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(angles), 0xD8));
}

}  // namespace

void rope_adjacent(float* head, uint32_t head_dim, const float* cosine, const float* sine) {
    for (uint32_t i = 0; i < head_dim / 2; i += kLanes) {
        const uint32_t back_at = 2 * i + kLanes;
        const __m256 front = Lanes::load_left(head, 2 * i, head_dim);
        const __m256 back = back_at < head_dim ? Lanes::load_left(head, back_at, head_dim) : _mm256_setzero_ps();
        const Pairs in{_mm256_shuffle_ps(front, back, 0x88), _mm256_shuffle_ps(front, back, 0xDD)};
        const Pairs out = turn(in, in_shuffled_order(Lanes::load_left(cosine, i, head_dim / 2)),
                               in_shuffled_order(Lanes::load_left(sine, i, head_dim / 2)));
        Lanes::store_left(head, 2 * i, head_dim, _mm256_unpacklo_ps(out.x0, out.x1));
        if (back_at < head_dim) Lanes::store_left(head, back_at, head_dim, _mm256_unpackhi_ps(out.x0, out.x1));
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

}  // namespace driftwood::compute::avx2
