// Rule 7: attention over 16-bit integer keys and values (attention_lanes.h). The layout of a block (kv.h) pairs
// dimensions of a key and keys of a dimension; LD2 takes the pairs apart, SMLAL multiplies and adds 16-bit numbers
// in 32 bits, modulo 2^32 like the contract.
#include "compute/cpu/attention_lanes.h"
#include "compute/cpu/neon/lanes.h"
#include "compute/cpu/neon/neon.h"

namespace driftwood::compute::neon {

namespace {

constexpr uint32_t kEight = 8;  // keys, or dimensions of the output, in two registers of sums

// A row on its way through the chunks.
struct State {
    // Of each pair of dimensions: the raw high bytes (signed), then the low bytes (unsigned), as 16-bit numbers.
    int16_t q[kMaxHeadDim / 2][4];
    int16_t weight[kBlockTokens];  // of the chunk's values, 0 for keys that the row does not see
    Running running;
};

// u = (256 Σ (q >> 8) k + Σ (q & 255) k) · ks of the 8 keys from `first` on, for Rows rows.
template <uint32_t Rows>
void score_eight(const Chunk& chunk, uint32_t first, uint32_t head_dim, const State* states, float (*u)[kBlockTokens]) {
    const int16_t* k = chunk.k + size_t{first / kHalf} * kHalf * head_dim + size_t{first % kHalf} * 2;
    int32x4_t high[Rows][2];
    int32x4_t low[Rows][2];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) high[r][0] = high[r][1] = low[r][0] = low[r][1] = vdupq_n_s32(0);
    for (uint32_t pair = 0; pair < head_dim / 2; ++pair) {
        const int16x8x2_t keys = vld2q_s16(k + size_t{2} * pair * kHalf);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
            const int16x4_t q = vld1_s16(states[r].q[pair]);
            high[r][0] = vmlal_lane_s16(high[r][0], vget_low_s16(keys.val[0]), q, 0);
            high[r][1] = vmlal_high_lane_s16(high[r][1], keys.val[0], q, 0);
            low[r][0] = vmlal_lane_s16(low[r][0], vget_low_s16(keys.val[0]), q, 2);
            low[r][1] = vmlal_high_lane_s16(low[r][1], keys.val[0], q, 2);
            high[r][0] = vmlal_lane_s16(high[r][0], vget_low_s16(keys.val[1]), q, 1);
            high[r][1] = vmlal_high_lane_s16(high[r][1], keys.val[1], q, 1);
            low[r][0] = vmlal_lane_s16(low[r][0], vget_low_s16(keys.val[1]), q, 3);
            low[r][1] = vmlal_high_lane_s16(low[r][1], keys.val[1], q, 3);
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t key = first + i * kLanes;
            const float32x4_t sum = vfmaq_f32(vcvtq_f32_s32(low[r][i]), vdupq_n_f32(256.0F), vcvtq_f32_s32(high[r][i]));
            vst1q_f32(u[r] + key, vmulq_f32(sum, vld1q_f32(chunk.ks + key)));
        }
    }
}

float32x4_t exp2_lanes(float32x4_t x) {
    const float32x4_t magic = vdupq_n_f32(kRoundMagic);
    const float32x4_t y = vaddq_f32(x, magic);
    const float32x4_t f = vsubq_f32(x, vsubq_f32(y, magic));
    float32x4_t p = vdupq_n_f32(kExp2Poly[0]);
    for (int i = 1; i < 5; ++i) p = vfmaq_f32(vdupq_n_f32(kExp2Poly[i]), p, f);
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(y), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p), exponent));
}

// Which of the 4 keys from `first` on a row sees.
uint32x4_t seen_at(uint32_t first, uint32_t visible) {
    static constexpr uint32_t kLane[kLanes] = {0, 1, 2, 3};
    return vcltq_u32(vaddq_u32(vld1q_u32(kLane), vdupq_n_u32(first)), vdupq_n_u32(visible));
}

float32x4_t where(uint32x4_t mask, float32x4_t x) {
    return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(x)));
}

// From scores to integer weights, and what merging the chunk needs. False outside the contract's range.
bool weigh(const AttentionRow& row, const float* u, const float* vs, uint32_t visible, State& state) {
    const float32x4_t least = vdupq_n_f32(-__builtin_inff());
    float32x4_t most_u = least;
    for (uint32_t key = 0; key < visible; key += kLanes) {
        most_u = vmaxq_f32(most_u, vbslq_f32(seen_at(key, visible), vld1q_f32(u + key), least));
    }
    const float c = vmaxvq_f32(most_u) * row.cq;
    if (!(__builtin_fabsf(c) < kRoundLimit)) return false;
    const float m = chunk_max(c);

    float w[kBlockTokens];
    float32x4_t most_w = vdupq_n_f32(0.0F);
    int32x4_t l = vdupq_n_s32(0);
    for (uint32_t key = 0; key < kBlockTokens; key += kLanes) {
        const uint32x4_t seen = seen_at(key, visible);
        const float32x4_t x = vfmaq_f32(vdupq_n_f32(-m), vld1q_f32(u + key), vdupq_n_f32(row.cq));
        const float32x4_t floor = vdupq_n_f32(kScoreFloor);
        const float32x4_t p = where(seen, exp2_lanes(vbslq_f32(vcgtq_f32(x, floor), x, floor)));
        l = vaddq_s32(l, round_int(vmulq_f32(p, vdupq_n_f32(kWeightScale))));
        const float32x4_t weighted = where(seen, vmulq_f32(p, vld1q_f32(vs + key)));
        vst1q_f32(w + key, weighted);
        most_w = vmaxq_f32(most_w, weighted);
    }
    const uint32_t most_bits = bits_of(vmaxvq_f32(most_w));
    if (most_bits >= kInfinityBits) return false;
    const WeightUnit unit(most_bits);
    const float32x4_t inv = vdupq_n_f32(unit.inverse());
    for (uint32_t key = 0; key < kBlockTokens; key += kLanes) {
        vst1_s16(state.weight + key, vmovn_s32(round_int(vmulq_f32(vld1q_f32(w + key), inv))));
    }
    state.running.merge(m, vaddvq_s32(l), unit);
    return true;
}

// The pairs' values of 8 dimensions from `first` on: both keys of each; zero for dimensions past the end.
int16x8x2_t load_values(const int16_t* at, uint32_t first, uint32_t head_dim) {
    if (head_dim - first >= kEight) return vld2q_s16(at);
    int16_t last[2 * kEight] = {};
    for (uint32_t i = 0; i < 2 * (head_dim - first); ++i) last[i] = at[i];
    return vld2q_s16(last);
}

// O = fma(float(Σ weight · v), unit, O · al) of the dimensions [first, first + 8) below head_dim, for Rows rows.
template <uint32_t Rows>
void add_values(const int16_t* v, uint32_t first, uint32_t head_dim, uint32_t key_pairs, const State* states,
                const AttentionRow* rows) {
    int32x4_t total[Rows][2];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) total[r][0] = total[r][1] = vdupq_n_s32(0);
    for (uint32_t pair = 0; pair < key_pairs; ++pair) {
        const int16x8x2_t values = load_values(v + (size_t{pair} * head_dim + first) * 2, first, head_dim);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < Rows; ++r) {
            const int16_t* weight = states[r].weight + size_t{2} * pair;
            total[r][0] = vmlal_n_s16(total[r][0], vget_low_s16(values.val[0]), weight[0]);
            total[r][1] = vmlal_high_n_s16(total[r][1], values.val[0], weight[0]);
            total[r][0] = vmlal_n_s16(total[r][0], vget_low_s16(values.val[1]), weight[1]);
            total[r][1] = vmlal_high_n_s16(total[r][1], values.val[1], weight[1]);
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t d = first + i * kLanes;
            if (d >= head_dim) break;
            merge_values<Lanes>(states[r].running, vcvtq_f32_s32(total[r][i]), rows[r].out, d, head_dim);
        }
    }
}

struct Isa : Lanes {
    using State = neon::State;

    static void begin(const AttentionRow& row, uint32_t head_dim, State& state) {
        for (uint32_t d = 0; d < head_dim; ++d) {
            state.q[d / 2][d % 2] = static_cast<int16_t>(row.q[d] >> 8);
            state.q[d / 2][2 + d % 2] = static_cast<int16_t>(row.q[d] & 255);
            row.out[d] = 0.0F;
        }
    }

    template <uint32_t Rows>
    static void attend(const Chunk& chunk, uint32_t head_dim, uint32_t most_visible, AttentionRow* rows, State* states,
                       Ahead& /*none*/) {
        float u[Rows][kBlockTokens] = {};
        for (uint32_t first = 0; first < most_visible; first += kEight) {
            score_eight<Rows>(chunk, first, head_dim, states, u);
        }
        for (uint32_t r = 0; r < Rows; ++r) {
            if (rows[r].finite) {
                rows[r].finite = weigh(rows[r], u[r], chunk.vs, visible_in(chunk, rows[r]), states[r]);
            }
        }
        for (uint32_t first = 0; first < head_dim; first += kEight) {
            add_values<Rows>(chunk.v, first, head_dim, (most_visible + 1) / 2, states, rows);
        }
    }
};

}  // namespace

void attention(const AttentionKvi& args) { attend_to_all<Isa>(args); }

}  // namespace driftwood::compute::neon
