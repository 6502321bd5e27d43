// The reference against the same model computed in float64 the obvious way: what a wrong formula cannot pass.
#include <cmath>
#include <functional>

#include "compute/engine_test.h"
#include "compute/reference/reference.h"

namespace driftwood::compute {
namespace {

using Vector = std::vector<double>;

std::vector<float> weights_of_row(const MatrixView& m, size_t row) {
    std::vector<float> values(m.cols);
    reference::kernels().embed[static_cast<size_t>(m.type)](m.bytes.data() + row * row_bytes(m.type, m.cols), m.cols,
                                                            values.data());
    return values;
}

Vector multiply(const MatrixView& m, const Vector& x) {
    Vector y(m.rows, 0.0);
    for (size_t r = 0; r < m.rows; ++r) {
        const std::vector<float> w = weights_of_row(m, r);
        for (size_t c = 0; c < m.cols; ++c) y[r] += w[c] * x[c];
    }
    return y;
}

Vector normed(const Vector& x, std::span<const float> w, double eps) {
    double sum = 0.0;
    for (const double value : x) sum += value * value;
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(sum / static_cast<double>(x.size()) + eps) * w[i];
    return y;
}

void rope(const DecoderSpec& spec, double* head, uint32_t position) {
    const uint32_t half = spec.head_dim / 2;
    for (uint32_t i = 0; i < half; ++i) {
        double angle = position * std::pow(spec.rope_theta, -2.0 * i / spec.head_dim);
        if (!spec.rope_factors.empty()) angle /= spec.rope_factors[i];
        const bool adjacent = spec.rope_pairs == RopePairs::kAdjacent;
        double& x0 = head[adjacent ? 2 * i : i];
        double& x1 = head[adjacent ? 2 * i + 1 : i + half];
        const double r0 = x0 * std::cos(angle) - x1 * std::sin(angle);
        x1 = x1 * std::cos(angle) + x0 * std::sin(angle);
        x0 = r0;
    }
}

struct Float64Decoder {
    const DecoderSpec& spec;
    std::vector<std::vector<Vector>> keys, values;  // [layer][position]

    explicit Float64Decoder(const DecoderSpec& s) : spec(s), keys(s.layers), values(s.layers) {}

    Vector attention(uint32_t layer, const Vector& q) {
        const uint32_t hd = spec.head_dim;
        Vector out(q.size(), 0.0);
        for (uint32_t h = 0; h < spec.heads; ++h) {
            const uint32_t kv = h / (spec.heads / spec.kv_heads);
            Vector score(keys[layer].size());
            double sum = 0.0;
            for (size_t t = 0; t < score.size(); ++t) {
                double dot = 0.0;
                for (uint32_t d = 0; d < hd; ++d) dot += q[h * hd + d] * keys[layer][t][kv * hd + d];
                score[t] = std::exp(dot / std::sqrt(static_cast<double>(hd)));
                sum += score[t];
            }
            for (size_t t = 0; t < score.size(); ++t) {
                for (uint32_t d = 0; d < hd; ++d) out[h * hd + d] += score[t] / sum * values[layer][t][kv * hd + d];
            }
        }
        return out;
    }

    Vector step(uint32_t token, uint32_t position) {
        const std::vector<float> embedded = weights_of_row(spec.embedding, token);
        Vector x(embedded.begin(), embedded.end());
        const auto add = [&](const Vector& y) {
            for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
        };
        for (uint32_t l = 0; l < spec.layers; ++l) {
            const DecoderLayer& w = spec.layer[l];
            const Vector a = normed(x, w.attn_norm, spec.norm_eps);
            Vector q = multiply(w.wq, a);
            Vector k = multiply(w.wk, a);
            for (uint32_t h = 0; h < spec.heads; ++h) rope(spec, &q[h * spec.head_dim], position);
            for (uint32_t h = 0; h < spec.kv_heads; ++h) rope(spec, &k[h * spec.head_dim], position);
            keys[l].push_back(k);
            values[l].push_back(multiply(w.wv, a));
            add(multiply(w.wo, attention(l, q)));
            const Vector f = normed(x, w.ffn_norm, spec.norm_eps);
            Vector gate = multiply(w.w_gate, f);
            const Vector up = multiply(w.w_up, f);
            for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
            add(multiply(w.w_down, gate));
        }
        return multiply(spec.output, normed(x, spec.output_norm, spec.norm_eps));
    }
};

// Root mean square of the difference over that of the float64 logits.
double relative_error(const TestModel& model, uint32_t count) {
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, count, 5);
    auto engine = test_engine("reference", model.spec);
    const TestSequence sequence = run_sequence(*engine, tokens, count);
    Float64Decoder exact(model.spec);
    double difference = 0.0;
    double size = 0.0;
    for (uint32_t t = 0; t < count; ++t) {
        const Vector want = exact.step(tokens[t], t);
        for (size_t i = 0; i < want.size(); ++i) {
            const double got = sequence.logits[t * want.size() + i];
            difference += (got - want[i]) * (got - want[i]);
            size += want[i] * want[i];
        }
    }
    return std::sqrt(difference / size);
}

TEST(reference_engine, logits_agree_with_float64) { EXPECT_LT(relative_error(make_test_model({}, 1), 70), 2e-2); }

TEST(reference_engine, logits_agree_with_float64_for_paired_halves_and_rope_factors) {
    EXPECT_LT(relative_error(make_test_model({.rope_pairs = RopePairs::kHalves, .rope_factors = true}, 2), 70), 2e-2);
}

TEST(reference_engine, logits_agree_with_float64_for_wide_heads_and_one_kv_head) {
    const TestShape shape{
        .layers = 1, .d_model = 288, .heads = 4, .kv_heads = 1, .head_dim = 80, .d_ff = 320, .tied = true};
    EXPECT_LT(relative_error(make_test_model(shape, 3), 20), 2e-2);
}

TEST(reference_engine, logits_agree_with_float64_for_every_type_of_weights) {
    TestShape shape{.layers = 1, .d_model = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .d_ff = 512, .vocab = 40};
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        if (is_plain_float(type)) continue;
        SCOPED_TRACE(weight_type_name(type));
        shape.type = type;
        shape.second_type = type == WeightType::kQ4_K ? WeightType::kQ6_K : type;
        shape.activation_bits = ActivationBits::k8;
        EXPECT_LT(relative_error(make_test_model(shape, 4), 12), 3e-2);
        shape.activation_bits = ActivationBits::k16;
        EXPECT_LT(relative_error(make_test_model(shape, 4), 12), 1e-3);
    }
}

}  // namespace
}  // namespace driftwood::compute
