// Rule 7: attention over 16-bit integer keys and values (attention_lanes.h). VPMADDWD multiplies pairs of 16-bit
// numbers (two dimensions of a key, two keys of a dimension), which is why the layout of a block (kv.h) pairs them. No
// pair overflows, whatever a file holds: a query's bytes are at most 255, weights at most 8192.
#include "compute/cpu/attention_lanes.h"
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx2/lanes.h"

namespace driftwood::compute::avx2 {

namespace {

constexpr uint32_t kEighths = kBlockTokens / kLanes;  // registers of one number per key

// A row on its way through the chunks.
struct State {
    // The query's raw high bytes (signed) and low bytes (unsigned) as 16-bit numbers.
    alignas(32) int16_t high[kMaxHeadDim];
    alignas(32) int16_t low[kMaxHeadDim];
    alignas(32) int16_t weight[kBlockTokens];  // of the chunk's values, 0 for keys that the row does not see
    Running running;
};

__m256i broadcast_pair(const int16_t* pair) {
    int32_t word = 0;
    __builtin_memcpy(&word, pair, sizeof(word));
    return _mm256_set1_epi32(word);
}

// total += a · b by pairs.
__m256i add_products(__m256i total, __m256i a, __m256i b) { return _mm256_add_epi32(total, _mm256_madd_epi16(a, b)); }

// u = (256 Σ (q >> 8) k + Σ (q & 255) k) · ks of the 8 keys from `first` on, for Rows rows.
template <uint32_t Rows>
void score_eight(const Chunk& chunk, uint32_t first, uint32_t head_dim, const State* states, float (*u)[kBlockTokens]) {
    const int16_t* k = chunk.k + size_t{first / kHalf} * kHalf * head_dim + size_t{first % kHalf} * 2;
    __m256i high[Rows];
    __m256i low[Rows];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) high[r] = low[r] = _mm256_setzero_si256();
    for (uint32_t d = 0; d < head_dim; d += 2) {
        const __m256i keys = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k + size_t{d} * kHalf));
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
            high[r] = add_products(high[r], keys, broadcast_pair(states[r].high + d));
            low[r] = add_products(low[r], keys, broadcast_pair(states[r].low + d));
        }
    }
    const __m256 scale = _mm256_loadu_ps(chunk.ks + first);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
        const __m256 sum =
            _mm256_fmadd_ps(_mm256_set1_ps(256.0F), _mm256_cvtepi32_ps(high[r]), _mm256_cvtepi32_ps(low[r]));
        _mm256_store_ps(u[r] + first, _mm256_mul_ps(sum, scale));
    }
}

__m256 exp2_lanes(__m256 x) {
    const __m256 magic = _mm256_set1_ps(kRoundMagic);
    const __m256 y = _mm256_add_ps(x, magic);
    const __m256 f = _mm256_sub_ps(x, _mm256_sub_ps(y, magic));
    __m256 p = _mm256_set1_ps(kExp2Poly[0]);
    for (int i = 1; i < 5; ++i) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2Poly[i]));
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(y), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

// Which of the 8 keys from `first` on a row sees.
__m256 seen_at(uint32_t first, uint32_t visible) {
    return visible > first ? _mm256_castsi256_ps(lanes_left(first, visible)) : _mm256_setzero_ps();
}

// From scores to integer weights, and what merging the chunk needs. False outside the contract's range.
bool weigh(const AttentionRow& row, const float* u, const float* vs, uint32_t visible, State& state) {
    const __m256 least = _mm256_set1_ps(-__builtin_inff());
    __m256 most_u = least;
    for (uint32_t key = 0; key < visible; key += kLanes) {
        most_u = _mm256_max_ps(most_u, _mm256_blendv_ps(least, _mm256_load_ps(u + key), seen_at(key, visible)));
    }
    const float c = reduce_max(most_u) * row.cq;
    if (!(__builtin_fabsf(c) < kRoundLimit)) return false;
    const float m = chunk_max(c);

    __m256 w[kEighths];
    __m256 most_w = _mm256_setzero_ps();
    __m256i l = _mm256_setzero_si256();
    for (uint32_t i = 0; i < kEighths; ++i) {
        const __m256 seen = seen_at(i * kLanes, visible);
        const __m256 x = _mm256_fmsub_ps(_mm256_load_ps(u + i * kLanes), _mm256_set1_ps(row.cq), _mm256_set1_ps(m));
        const __m256 p = _mm256_and_ps(seen, exp2_lanes(_mm256_max_ps(x, _mm256_set1_ps(kScoreFloor))));
        l = _mm256_add_epi32(l, round_int(_mm256_mul_ps(p, _mm256_set1_ps(kWeightScale))));
        w[i] = _mm256_and_ps(seen, _mm256_mul_ps(p, _mm256_loadu_ps(vs + i * kLanes)));
        most_w = _mm256_max_ps(most_w, w[i]);
    }
    const uint32_t most_bits = bits_of(reduce_max(most_w));
    if (most_bits >= kInfinityBits) return false;
    const WeightUnit unit(most_bits);
    const __m256 inv = _mm256_set1_ps(unit.inverse());
    for (uint32_t i = 0; i < kEighths; i += 2) {
        // Weights are at most 8192: nothing saturates. Packing works inside 128 bits; the permutation mends the order.
        const __m256i packed =
            _mm256_packs_epi32(round_int(_mm256_mul_ps(w[i], inv)), round_int(_mm256_mul_ps(w[i + 1], inv)));
        _mm256_store_si256(reinterpret_cast<__m256i*>(state.weight + i * kLanes),
                           _mm256_permute4x64_epi64(packed, 0xD8));
    }
    state.running.merge(m, reduce_add(l), unit);
    return true;
}

// O = fma(float(Σ weight · v), unit, O · al) of the dimensions [first, first + 16) below head_dim, for Rows rows.
template <uint32_t Rows>
void add_values(const int16_t* v, uint32_t first, uint32_t head_dim, uint32_t key_pairs, const State* states,
                const AttentionRow* rows) {
    const __m256i mask[2] = {
        lanes_left(first, head_dim),
        first + kLanes < head_dim ? lanes_left(first + kLanes, head_dim) : _mm256_setzero_si256(),
    };
    __m256i total[Rows][2];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) total[r][0] = total[r][1] = _mm256_setzero_si256();
    for (uint32_t pair = 0; pair < key_pairs; ++pair) {
        const auto* at = reinterpret_cast<const int*>(v + (size_t{pair} * head_dim + first) * 2);
        const __m256i v0 = _mm256_maskload_epi32(at, mask[0]);
        const __m256i v1 = _mm256_maskload_epi32(at + kLanes, mask[1]);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
            const __m256i weight = broadcast_pair(states[r].weight + 2 * size_t{pair});
            total[r][0] = add_products(total[r][0], v0, weight);
            total[r][1] = add_products(total[r][1], v1, weight);
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t d = first + i * kLanes;
            if (d >= head_dim) break;
            merge_values<Lanes>(states[r].running, _mm256_cvtepi32_ps(total[r][i]), rows[r].out, d, head_dim);
        }
    }
}

struct Isa : Lanes {
    using State = avx2::State;

    static void begin(const AttentionRow& row, uint32_t head_dim, State& state) {
        for (uint32_t d = 0; d < head_dim; ++d) {
            state.high[d] = static_cast<int16_t>(row.q[d] >> 8);
            state.low[d] = static_cast<int16_t>(row.q[d] & 255);
            row.out[d] = 0.0F;
        }
    }

    template <uint32_t Rows>
    static void attend(const Chunk& chunk, uint32_t head_dim, uint32_t most_visible, AttentionRow* rows, State* states,
                       Ahead& ahead) {
        // The next chunk has 4 · head_dim lines and a few.
        const uint32_t lines = head_dim / 4;
        alignas(32) float u[Rows][kBlockTokens] = {};
        for (uint32_t first = 0; first < most_visible; first += kLanes) {
            ahead.ask(lines);
            score_eight<Rows>(chunk, first, head_dim, states, u);
        }
        for (uint32_t r = 0; r < Rows; ++r) {
            ahead.ask(lines);
            if (rows[r].finite) {
                rows[r].finite = weigh(rows[r], u[r], chunk.vs, visible_in(chunk, rows[r]), states[r]);
            }
        }
        for (uint32_t first = 0; first < head_dim; first += 2 * kLanes) {
            ahead.ask(lines);
            add_values<Rows>(chunk.v, first, head_dim, (most_visible + 1) / 2, states, rows);
        }
        ahead.ask_for_rest();
    }
};

}  // namespace

void attention(const AttentionKvi& args) { attend_to_all<Isa>(args); }

}  // namespace driftwood::compute::avx2
