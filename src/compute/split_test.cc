// A decoder divided over several cards: linear layers by their outputs, attention by heads. What crosses between the
// parts is written down as gather(): quantised activations, and the norms' sums of squares of each 256 values. No chain
// of floats crosses, so 1, 2 and 4 parts have the bits of the whole (docs/several-cards.md).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "compute/engine.h"
#include "compute/engine_test.h"
#include "compute/math.h"
#include "compute/reference/reference.h"
#include "compute/rope_table.h"
#include "compute/step.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

// Activations of rows, whole; parts write their columns.
struct Gathered {
    uint32_t cols = 0, group = 256;
    std::vector<int8_t> high, low;
    std::vector<float> scale;
    std::vector<int32_t> high_sum, low_sum;

    Gathered(ActivationKind kind, uint32_t rows, uint32_t columns)
        : cols(columns), group(kind == ActivationKind::kA32P ? 32 : 256) {
        high.resize(size_t{rows} * cols);
        low.resize(size_t{rows} * cols);
        scale.resize(size_t{rows} * (cols / group));
        high_sum.resize(size_t{rows} * (cols / 16));
        low_sum.resize(size_t{rows} * (cols / 16));
    }
    // Columns from `col` on, a multiple of 256.
    ActivationRow row(uint32_t t, uint32_t col) {
        const size_t at = size_t{t} * cols + col;
        return {&high[at], &low[at], &scale[size_t{t} * (cols / group) + col / group], &high_sum[at / 16],
                &low_sum[at / 16]};
    }
    Activations view() const { return {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()}; }
};

// What one card has: its columns of the residual, its heads, and what it makes of them.
struct Part {
    std::vector<float> residual, normed, q, k, v, attended, gate, up, delta, logits;
};

class Split {
  public:
    Split(const DecoderSpec& spec, std::span<const uint32_t> tokens, uint32_t parts)
        : spec_(spec),
          tokens_(tokens),
          rows_(static_cast<uint32_t>(tokens.size())),
          count_(parts),
          rope_(spec.rope_theta, spec.head_dim, spec.rope_factors),
          parts_(parts) {}

    // Logits of every token.
    std::vector<float> run() {
        embed();
        for (uint32_t layer = 0; layer < spec_.layers; ++layer) {
            attention_block(layer);
            feed_forward_block(spec_.layer[layer]);
        }
        const Gathered x = norm(spec_.output_norm, spec_.output);
        std::vector<float> logits(size_t{rows_} * spec_.vocab);
        for (uint32_t p = 0; p < count_; ++p) {
            multiply(p, spec_.output, x, parts_[p].logits);
            const uint32_t own = spec_.vocab / count_;
            for (uint32_t t = 0; t < rows_; ++t) {
                std::copy_n(&parts_[p].logits[size_t{t} * own], own, &logits[size_t{t} * spec_.vocab + p * own]);
            }
        }
        return logits;
    }
    uint64_t gathered_bytes() const { return gathered_bytes_; }

  private:
    const Kernels& kernels() const { return reference::kernels(); }
    uint32_t own(uint32_t width) const { return width / count_; }
    ActivationKind kind_of(const MatrixView& w) const { return activation_kind(w.type, spec_.activation_bits); }

    // Each part has its columns of each row of the embedding.
    void embed() {
        std::vector<float> row(spec_.d_model);
        for (Part& part : parts_) part.residual.resize(size_t{rows_} * own(spec_.d_model));
        for (uint32_t t = 0; t < rows_; ++t) {
            const MatrixView& e = spec_.embedding;
            kernels().embed[static_cast<uint32_t>(e.type)](
                e.bytes.data() + size_t{tokens_[t]} * row_bytes(e.type, e.cols), spec_.d_model, row.data());
            for (uint32_t p = 0; p < count_; ++p) {
                std::copy_n(&row[size_t{p} * own(spec_.d_model)], own(spec_.d_model),
                            &parts_[p].residual[size_t{t} * own(spec_.d_model)]);
            }
        }
    }

    // A part's columns, quantised by itself, where all parts see them.
    void gather(uint32_t p, const std::vector<float>& x, Gathered& out) {
        const uint32_t width = own(out.cols);
        for (uint32_t t = 0; t < rows_; ++t) {
            ASSERT_TRUE(
                kernels().quantise[static_cast<uint32_t>(kind_)](&x[size_t{t} * width], width, out.row(t, p * width)));
        }
        gathered_bytes_ += uint64_t{rows_} * (width + width / out.group * sizeof(float));
    }

    // The part's rows of W, with all of x.
    void multiply(uint32_t p, const MatrixView& w, const Gathered& x, std::vector<float>& y) const {
        const uint32_t width = own(w.rows);
        y.resize(size_t{rows_} * width);
        const size_t bytes = row_bytes(w.type, w.cols);
        const Linear args{.weights = w.bytes.data() + size_t{p} * width * bytes,
                          .row_bytes = bytes,
                          .cols = w.cols,
                          .tokens = rows_,
                          .x = x.view(),
                          .y = y.data(),
                          .y_stride = width};
        kernels().linear[static_cast<uint32_t>(w.type)][static_cast<uint32_t>(kind_of(w))](args, 0, width);
    }

    // Blocks' sums cross, each part adds all of them in order, and norms and quantises its own columns.
    Gathered norm(std::span<const float> weight, const MatrixView& next) {
        const uint32_t d = spec_.d_model, width = own(d);
        std::vector<float> sums(size_t{rows_} * (d / kSuperBlock));
        for (uint32_t t = 0; t < rows_; ++t) {
            for (uint32_t i = 0; i < d; i += kSuperBlock) {
                const float* x = &parts_[i / width].residual[size_t{t} * width + i % width];
                sums[size_t{t} * (d / kSuperBlock) + i / kSuperBlock] = ordered_sum_of_squares({x, kSuperBlock});
            }
        }
        gathered_bytes_ += sums.size() * sizeof(float);
        kind_ = kind_of(next);
        Gathered out(kind_, rows_, d);
        for (uint32_t p = 0; p < count_; ++p) {
            Part& part = parts_[p];
            part.normed.resize(part.residual.size());
            for (uint32_t t = 0; t < rows_; ++t) {
                float sum = 0.0F;
                for (uint32_t b = 0; b < d / kSuperBlock; ++b) sum += sums[size_t{t} * (d / kSuperBlock) + b];
                const float r = 1.0F / std::sqrt(std::fma(sum, 1.0F / static_cast<float>(d), spec_.norm_eps));
                for (uint32_t i = 0; i < width; ++i) {
                    const size_t at = size_t{t} * width + i;
                    part.normed[at] = (part.residual[at] * r) * weight[size_t{p} * width + i];
                }
            }
            gather(p, part.normed, out);
        }
        return out;
    }

    void add_product(const MatrixView& w, const Gathered& x) {
        for (uint32_t p = 0; p < count_; ++p) {
            multiply(p, w, x, parts_[p].delta);
            kernels().add(parts_[p].residual.data(), parts_[p].delta.data(),
                          static_cast<uint32_t>(parts_[p].delta.size()));
        }
    }

    void attention_block(uint32_t layer) {
        const DecoderLayer& w = spec_.layer[layer];
        const Gathered x = norm(w.attn_norm, w.wq);
        kind_ = kind_of(w.wo);
        Gathered attended(kind_, rows_, spec_.heads * spec_.head_dim);
        for (uint32_t p = 0; p < count_; ++p) {
            multiply(p, w.wq, x, parts_[p].q);
            multiply(p, w.wk, x, parts_[p].k);
            multiply(p, w.wv, x, parts_[p].v);
            attend(parts_[p]);
            gather(p, parts_[p].attended, attended);
        }
        add_product(w.wo, attended);
    }

    // Whole heads, as one card has them.
    void attend(Part& part) {
        const uint32_t dim = spec_.head_dim, heads = own(spec_.heads), kv_heads = own(spec_.kv_heads);
        const uint32_t group = heads / kv_heads;
        const KvLayout one{.layers = 1, .kv_heads = 1, .head_dim = dim};
        std::vector<std::vector<uint8_t>> kv(kv_heads, std::vector<uint8_t>(one.head_bytes()));
        part.attended.resize(part.q.size());
        std::vector<float> cosine(dim / 2), sine(dim / 2);
        for (uint32_t t = 0; t < rows_; ++t) {
            rope_.angles(t, cosine, sine);
            for (uint32_t h = 0; h < kv_heads; ++h) {
                const size_t at = (size_t{t} * kv_heads + h) * dim;
                int16_t ints[kMaxHeadDim];
                float scale = 0.0F;
                kernels().rope_adjacent(&part.k[at], dim, cosine.data(), sine.data());
                ASSERT_TRUE(kernels().quantise_16(&part.k[at], dim, kMaxQ16, ints, &scale));
                store_k_row(kv[h].data(), dim, t, ints, scale);
                ASSERT_TRUE(kernels().quantise_16(&part.v[at], dim, kMaxV16, ints, &scale));
                store_v_row(kv[h].data(), dim, t, ints, scale);
            }
            for (uint32_t h = 0; h < heads; ++h) {
                const size_t at = (size_t{t} * heads + h) * dim;
                int16_t ints[kMaxHeadDim];
                float scale = 0.0F;
                kernels().rope_adjacent(&part.q[at], dim, cosine.data(), sine.data());
                ASSERT_TRUE(kernels().quantise_16(&part.q[at], dim, kMaxQ16, ints, &scale));
                AttentionRow row{.q = ints,
                                 .cq = scale * score_scale(dim),
                                 .visible = t + 1,
                                 .out = &part.attended[at],
                                 .finite = true};
                const uint8_t* block = kv[h / group].data();
                kernels().attention({dim, &block, &row, 1});
                ASSERT_TRUE(row.finite);
            }
        }
    }

    void feed_forward_block(const DecoderLayer& w) {
        const Gathered x = norm(w.ffn_norm, w.w_gate);
        kind_ = kind_of(w.w_down);
        Gathered pair(kind_, rows_, spec_.d_ff);
        for (uint32_t p = 0; p < count_; ++p) {
            Part& part = parts_[p];
            multiply(p, w.w_gate, x, part.gate);
            multiply(p, w.w_up, x, part.up);
            kernels().silu_multiply(part.gate.data(), part.up.data(), static_cast<uint32_t>(part.gate.size()),
                                    part.gate.data());
            gather(p, part.gate, pair);
        }
        add_product(w.w_down, pair);
    }

    const DecoderSpec& spec_;
    std::span<const uint32_t> tokens_;
    uint32_t rows_;
    uint32_t count_;
    RopeTable rope_;
    std::vector<Part> parts_;
    ActivationKind kind_ = ActivationKind::kA256;  // of the product that is next
    uint64_t gathered_bytes_ = 0;
};

class SplitOf : public ::testing::TestWithParam<std::pair<WeightType, ActivationBits>> {};

TEST_P(SplitOf, over_1_2_and_4_parts_a_decoder_has_the_bits_of_the_whole) {
    constexpr uint32_t kTokens = 5;
    const auto [type, bits] = GetParam();
    const TestModel model = make_test_model({.layers = 2,
                                             .d_model = 1024,
                                             .heads = 16,
                                             .kv_heads = 4,
                                             .head_dim = 64,
                                             .d_ff = 2048,
                                             .vocab = 512,
                                             .type = type,
                                             .second_type = type,
                                             .activation_bits = bits},
                                            21);
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, kTokens, 22);
    const auto engine = make_engine("reference", model.spec, {.kv_blocks = 1}).value();
    const BlockId block = engine->pool().allocate().value();
    std::vector<float> whole(size_t{kTokens} * model.spec.vocab);
    BatchItem item{.tokens = tokens, .first_position = 0, .blocks = {&block, 1}, .logits = whole, .error = {}};
    engine->step({&item, 1});
    ASSERT_FALSE(item.error);
    for (const uint32_t parts : {1U, 2U, 4U}) {
        Split split(model.spec, tokens, parts);
        EXPECT_TRUE(same_bits(split.run(), whole)) << parts << " parts";
        // Per token and layer: three gathers of d_model values and one of d_ff, and the sums of two norms; A32P has a
        // scale for 32 values, the others for 256 (the second digit of A16 is not counted).
        const uint64_t group = activation_kind(type, bits) == ActivationKind::kA32P ? 32 : 256;
        const uint64_t values = 2 * (3 * 1024 + 2048) + 1024;
        const uint64_t sums = (2 * 2 + 1) * 1024 / 256;
        EXPECT_EQ(split.gathered_bytes(), kTokens * (values + sizeof(float) * (values / group + sums)));
    }
}

INSTANTIATE_TEST_SUITE_P(types, SplitOf,
                         ::testing::Values(std::pair(WeightType::kQ8_0, ActivationBits::k8),
                                           std::pair(WeightType::kQ4_0, ActivationBits::k8),
                                           std::pair(WeightType::kQ4_K, ActivationBits::k8),
                                           std::pair(WeightType::kQ6_K, ActivationBits::k16),
                                           std::pair(WeightType::kW16, ActivationBits::k8)),
                         [](const auto& info) {
                             return std::string(weight_type_name(info.param.first)) + "_" +
                                    std::to_string(bits_of(info.param.second));
                         });

}  // namespace
}  // namespace driftwood::compute
