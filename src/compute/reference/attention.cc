// Rule 7: attention over 16-bit integer keys and values (KVI), in chunks of 64 keys, which are the blocks of the cache.
// Both long sums (query · key and weight · value) are exact integer sums; chunks are merged in ascending order.
#include <algorithm>
#include <cmath>

#include "compute/kv.h"
#include "compute/math.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::reference {

namespace {

// Sums may wrap when a file's integers are hostile: unsigned arithmetic gives the same bits everywhere.
uint32_t product(int32_t a, int32_t b) { return static_cast<uint32_t>(a) * static_cast<uint32_t>(b); }

// The score of one key, still without the query's scale: (256 Σ (q >> 8) k + Σ (q & 255) k) · ks.
float score(const AttentionRow& row, const KvHeadView& head, uint32_t key) {
    uint32_t high = 0;
    uint32_t low = 0;
    for (uint32_t d = 0; d < head.head_dim(); ++d) {
        high += product(row.q[d] >> 8, head.k(key, d));
        low += product(row.q[d] & 255, head.k(key, d));
    }
    const float a = static_cast<float>(static_cast<int32_t>(high));
    const float b = static_cast<float>(static_cast<int32_t>(low));
    return std::fma(256.0F, a, b) * head.k_scale(key);
}

// What one chunk contributes: probabilities 2^(score - m), their sum l, and weights for the values.
struct Chunk {
    float m = 0.0F;                // an integer, at least the largest scaled score (but for its rounding)
    int32_t l = 0;                 // Σ p · 2^20
    int32_t weight[kBlockTokens];  // p · vs · inv, 0..8192
    int32_t g_exponent = 0;        // the weights' unit is 2^g_exponent ...
    bool g_zero = true;            // ... or they are all zero
};

// Fills `chunk` for the first `visible` keys. False when a score or a weight is outside the contract's range.
bool weigh(const AttentionRow& row, const KvHeadView& head, uint32_t visible, Chunk& chunk) {
    float u[kBlockTokens];
    for (uint32_t key = 0; key < visible; ++key) u[key] = score(row, head, key);
    const float c = *std::max_element(u, u + visible) * row.cq;
    if (!(std::fabs(c) < kRoundLimit)) return false;
    const float n = round_float(c);
    chunk.m = c - n >= kTiny ? n + 1.0F : n;

    float w[kBlockTokens];
    float most = 0.0F;
    chunk.l = 0;
    for (uint32_t key = 0; key < visible; ++key) {
        const float x = std::fma(u[key], row.cq, -chunk.m);
        const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
        chunk.l += round_int(p * kWeightScale);
        w[key] = p * head.v_scale(key);
        most = std::max(most, w[key]);
    }
    if (!is_finite(most)) return false;
    chunk.g_zero = !(most >= kTiny);
    chunk.g_exponent = static_cast<int32_t>(float_bits(most) >> 23) - 139;
    const float inv = chunk.g_zero ? 0.0F : power_of_two(-chunk.g_exponent);
    for (uint32_t key = 0; key < visible; ++key) chunk.weight[key] = round_int(w[key] * inv);
    return true;
}

// Merges a chunk into the running maximum M, denominator L and output O.
void merge(const Chunk& chunk, const KvHeadView& head, uint32_t visible, float& running_max, float& sum, float* out) {
    const float new_max = std::max(running_max, chunk.m);
    const float al = power_of_two(static_cast<int32_t>(running_max - new_max));
    const int32_t be_exponent = static_cast<int32_t>(chunk.m - new_max);
    sum = std::fma(static_cast<float>(chunk.l), power_of_two(be_exponent), sum * al);
    const float unit = chunk.g_zero ? 0.0F : power_of_two(chunk.g_exponent + be_exponent);
    for (uint32_t d = 0; d < head.head_dim(); ++d) {
        uint32_t total = 0;
        for (uint32_t key = 0; key < visible; ++key) total += product(chunk.weight[key], head.v(key, d));
        out[d] = std::fma(static_cast<float>(static_cast<int32_t>(total)), unit, out[d] * al);
    }
    running_max = new_max;
}

void attend(AttentionRow& row, const AttentionKvi& args) {
    float running_max = kFirstMax;
    float sum = 0.0F;
    std::fill_n(row.out, args.head_dim, 0.0F);
    row.finite = true;
    for (uint32_t first = 0; first < row.visible; first += kBlockTokens) {
        const KvHeadView head(args.blocks[first / kBlockTokens], args.head_dim);
        const uint32_t visible = std::min(kBlockTokens, row.visible - first);
        Chunk chunk;
        if (!weigh(row, head, visible, chunk)) {
            row.finite = false;
            return;
        }
        merge(chunk, head, visible, running_max, sum, row.out);
    }
    const float factor = kWeightScale / sum;
    for (uint32_t d = 0; d < args.head_dim; ++d) row.out[d] = row.out[d] * factor;
}

}  // namespace

void attention(const AttentionKvi& args) {
    for (uint32_t i = 0; i < args.row_count; ++i) attend(args.rows[i], args);
}

}  // namespace driftwood::compute::reference
