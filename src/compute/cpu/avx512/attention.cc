// Rule 7: attention over 16-bit integer keys and values (attention_lanes.h). VPDPWSSD multiplies pairs of 16-bit
// numbers (two dimensions of a key, two keys of a dimension), which is why the layout of a block (kv.h) pairs them.
#include "compute/cpu/attention_lanes.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {

constexpr uint32_t kQuarters = kBlockTokens / kLanes;  // registers of one number per key
constexpr uint32_t kDimTile = 4 * kLanes;              // dimensions of the output that are summed at once

// A row on its way through the chunks.
struct State {
    // The query's raw high bytes (signed) and low bytes (unsigned) as 16-bit numbers.
    alignas(64) int16_t high[kMaxHeadDim];
    alignas(64) int16_t low[kMaxHeadDim];
    alignas(64) int16_t weight[kBlockTokens];  // of the chunk's values, 0 for keys that the row does not see
    Running running;
};

// total += a · b by pairs. The compiler would copy every total with each intrinsic.
inline void add_products(__m512i& total, __m512i a, __m512i b) {
    asm("vpdpwssd %2, %1, %0" : "+v"(total) : "v"(a), "v"(b));
}

__m512i broadcast_pair(const int16_t* pair) {
    int32_t word = 0;
    __builtin_memcpy(&word, pair, sizeof(word));
    return _mm512_set1_epi32(word);
}

// u = (256 Σ (q >> 8) k + Σ (q & 255) k) · ks of 32 keys, for Rows rows.
template <uint32_t Rows>
void score_half(const Chunk& chunk, uint32_t half, uint32_t head_dim, const State* states, Ahead& ahead,
                __m512 (*u)[kQuarters]) {
    const int16_t* k = chunk.k + size_t{half} * kHalf * head_dim;
    __m512i high[Rows][2];
    __m512i low[Rows][2];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
        high[r][0] = high[r][1] = low[r][0] = low[r][1] = _mm512_setzero_si512();
    }
    for (uint32_t d = 0; d < head_dim; d += 2) {
        ahead.ask(2);
        const __m512i k0 = _mm512_loadu_si512(k + size_t{d} * kHalf);
        const __m512i k1 = _mm512_loadu_si512(k + size_t{d} * kHalf + 2 * kLanes);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m512i q_high = broadcast_pair(states[r].high + d);
            const __m512i q_low = broadcast_pair(states[r].low + d);
            add_products(high[r][0], k0, q_high);
            add_products(high[r][1], k1, q_high);
            add_products(low[r][0], k0, q_low);
            add_products(low[r][1], k1, q_low);
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 2; ++i) {
            const __m512 sum =
                _mm512_fmadd_ps(_mm512_set1_ps(256.0F), _mm512_cvtepi32_ps(high[r][i]), _mm512_cvtepi32_ps(low[r][i]));
            const __m512 scale = _mm512_loadu_ps(chunk.ks + half * kHalf + i * kLanes);
            u[r][2 * half + i] = _mm512_mul_ps(sum, scale);
        }
    }
}

__m512 exp2_lanes(__m512 x) {
    const __m512 magic = _mm512_set1_ps(kRoundMagic);
    const __m512 y = _mm512_add_ps(x, magic);
    const __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(y, magic));
    __m512 p = _mm512_set1_ps(kExp2Poly[0]);
    for (int i = 1; i < 5; ++i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2Poly[i]));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(y), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}

// From scores to integer weights, and what merging the chunk needs, for Rows rows at once: what one row does is a long
// chain, of which the processor sees the next only if it stands beside it. A row outside the contract's range is not
// finite from then on, and what it has here is never used.
template <uint32_t Rows>
void weigh(const Chunk& chunk, const __m512 (*u)[kQuarters], AttentionRow* rows, State* states) {
    __mmask16 seen[Rows][kQuarters];
    float m[Rows];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
        const uint32_t visible = visible_in(chunk, rows[r]);
        __m512 most_u = _mm512_set1_ps(-__builtin_inff());
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kQuarters; ++i) {
            seen[r][i] = visible > i * kLanes ? lanes_left(i * kLanes, visible) : static_cast<__mmask16>(0);
            most_u = _mm512_mask_max_ps(most_u, seen[r][i], most_u, u[r][i]);
        }
        const float c = _mm512_reduce_max_ps(most_u) * rows[r].cq;
        rows[r].finite &= __builtin_fabsf(c) < kRoundLimit;
        m[r] = chunk_max(c);
    }

    __m512 w[Rows][kQuarters];
    __m512i l[Rows];
    uint32_t most_bits[Rows];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
        __m512 most_w = _mm512_setzero_ps();
        l[r] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kQuarters; ++i) {
            const __m512 x = _mm512_fmsub_ps(u[r][i], _mm512_set1_ps(rows[r].cq), _mm512_set1_ps(m[r]));
            const __m512 power = exp2_lanes(_mm512_max_ps(x, _mm512_set1_ps(kScoreFloor)));
            const __m512 p = _mm512_maskz_mov_ps(seen[r][i], power);
            l[r] = _mm512_add_epi32(l[r], round_int(_mm512_mul_ps(p, _mm512_set1_ps(kWeightScale))));
            w[r][i] = _mm512_maskz_mul_ps(seen[r][i], p, _mm512_loadu_ps(chunk.vs + i * kLanes));
            most_w = _mm512_max_ps(most_w, w[r][i]);
        }
        most_bits[r] = bits_of(_mm512_reduce_max_ps(most_w));
        rows[r].finite &= most_bits[r] < kInfinityBits;
    }

#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
        if (!rows[r].finite) continue;
        const WeightUnit unit(most_bits[r]);
        const __m512 inv = _mm512_set1_ps(unit.inverse());
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kQuarters; ++i) {
            const __m256i weight = _mm512_cvtepi32_epi16(round_int(_mm512_mul_ps(w[r][i], inv)));
            _mm256_store_si256(reinterpret_cast<__m256i*>(states[r].weight + i * kLanes), weight);
        }
        states[r].running.merge(m[r], reduce_add(l[r]), unit);
    }
}

// O = fma(float(Σ weight · v), unit, O · al) for Rows rows.
template <uint32_t Rows>
void add_values(const int16_t* v, uint32_t head_dim, uint32_t key_pairs, const State* states, Ahead& ahead,
                const AttentionRow* rows) {
    for (uint32_t first = 0; first < head_dim; first += kDimTile) {
        __mmask16 mask[4];
        __m512i total[Rows][4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t d = first + i * kLanes;
            mask[i] = d < head_dim ? lanes_left(d, head_dim) : static_cast<__mmask16>(0);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < Rows; ++r) total[r][i] = _mm512_setzero_si512();
        }
        for (uint32_t pair = 0; pair < key_pairs; ++pair) {
            const int16_t* at = v + (size_t{pair} * head_dim + first) * 2;
            ahead.ask(2);
            __m512i values[4];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; ++i) values[i] = _mm512_maskz_loadu_epi32(mask[i], at + i * 2 * kLanes);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < Rows; ++r) {
                const __m512i weight = broadcast_pair(states[r].weight + 2 * pair);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < 4; ++i) add_products(total[r][i], values[i], weight);
            }
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; ++i) {
                float* out = rows[r].out + first + i * kLanes;
                const __m512 before =
                    _mm512_mul_ps(_mm512_maskz_loadu_ps(mask[i], out), _mm512_set1_ps(states[r].running.al));
                const __m512 after =
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[r][i]), _mm512_set1_ps(states[r].running.unit), before);
                _mm512_mask_storeu_ps(out, mask[i], after);
            }
        }
    }
}

struct Isa : Lanes {
    using State = avx512::State;

    static void begin(const AttentionRow& row, uint32_t head_dim, State& state) {
        for (uint32_t d = 0; d < head_dim; d += kLanes) {
            const __mmask16 mask = lanes_left(d, head_dim);
            const __m256i q = _mm256_maskz_loadu_epi16(mask, row.q + d);
            _mm256_store_si256(reinterpret_cast<__m256i*>(state.high + d), _mm256_srai_epi16(q, 8));
            _mm256_store_si256(reinterpret_cast<__m256i*>(state.low + d), _mm256_and_si256(q, _mm256_set1_epi16(255)));
            _mm512_mask_storeu_ps(row.out + d, mask, _mm512_setzero_ps());
        }
    }

    template <uint32_t Rows>
    static void attend(const Chunk& chunk, uint32_t head_dim, uint32_t most_visible, AttentionRow* rows, State* states,
                       Ahead& ahead) {
        __m512 u[Rows][kQuarters];
        score_half<Rows>(chunk, 0, head_dim, states, ahead, u);
        if (most_visible > kHalf) {
            score_half<Rows>(chunk, 1, head_dim, states, ahead, u);
        } else {
#pragma GCC unroll 4
            for (uint32_t r = 0; r < Rows; ++r) u[r][2] = u[r][3] = _mm512_setzero_ps();
        }
        ahead.ask(head_dim);
        weigh<Rows>(chunk, u, rows, states);
        add_values<Rows>(chunk.v, head_dim, (most_visible + 1) / 2, states, ahead, rows);
        ahead.ask_for_rest();
    }
};

}  // namespace

void attention(const AttentionKvi& args) { attend_to_all<Isa>(args); }

}  // namespace driftwood::compute::avx512
