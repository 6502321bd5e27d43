// The reference's attention and linear layer against float64: how much the integers cost, which also finds any wrong
// formula.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "compute/half.h"
#include "compute/kv.h"
#include "compute/reference/reference.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

// About normal: the sum of twelve uniform numbers.
float normal(TestRandom& random) {
    float sum = 0.0F;
    for (int i = 0; i < 12; ++i) sum += random.uniform();
    return sum * 0.5F;
}

std::vector<float> normals(TestRandom& random, size_t count, float bias = 0.0F) {
    std::vector<float> values(count);
    for (float& x : values) x = normal(random) + bias;
    return values;
}

// Relative root mean square error of attention over `tokens` keys, all keys moved by `key_bias`.
double attention_error(uint32_t head_dim, uint32_t tokens, float key_bias) {
    TestRandom random(head_dim + tokens);
    const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = head_dim};
    std::vector<std::vector<uint8_t>> blocks((tokens + 63) / 64, std::vector<uint8_t>(layout.block_bytes()));
    std::vector<const uint8_t*> pointers;
    for (const auto& block : blocks) pointers.push_back(block.data());
    std::vector<std::vector<float>> k, v;
    std::vector<int16_t> ints(head_dim);
    float scale = 0.0F;
    for (uint32_t t = 0; t < tokens; ++t) {
        k.push_back(normals(random, head_dim, key_bias));
        v.push_back(normals(random, head_dim));
        EXPECT_TRUE(reference::quantise_16(k[t].data(), head_dim, kMaxQ16, ints.data(), &scale));
        store_k_row(blocks[t / 64].data(), head_dim, t % 64, ints.data(), scale);
        EXPECT_TRUE(reference::quantise_16(v[t].data(), head_dim, kMaxV16, ints.data(), &scale));
        store_v_row(blocks[t / 64].data(), head_dim, t % 64, ints.data(), scale);
    }
    const std::vector<float> q = normals(random, head_dim);
    EXPECT_TRUE(reference::quantise_16(q.data(), head_dim, kMaxQ16, ints.data(), &scale));
    std::vector<float> out(head_dim);
    const double root = std::sqrt(static_cast<double>(head_dim));
    AttentionRow row{ints.data(), scale * static_cast<float>(1.4426950408889634 / root), tokens, out.data(), false};
    reference::attention({head_dim, pointers.data(), &row, 1});
    EXPECT_TRUE(row.finite);

    std::vector<double> score(tokens, 0.0), want(head_dim, 0.0);
    double most = -1e300;
    for (uint32_t t = 0; t < tokens; ++t) {
        for (uint32_t d = 0; d < head_dim; ++d) score[t] += double{q[d]} * k[t][d] / root;
        most = std::max(most, score[t]);
    }
    double sum = 0.0;
    for (uint32_t t = 0; t < tokens; ++t) sum += score[t] = std::exp(score[t] - most);
    double difference = 0.0, size = 0.0;
    for (uint32_t d = 0; d < head_dim; ++d) {
        for (uint32_t t = 0; t < tokens; ++t) want[d] += score[t] / sum * v[t][d];
        difference += (out[d] - want[d]) * (out[d] - want[d]);
        size += want[d] * want[d];
    }
    return std::sqrt(difference / size);
}

TEST(reference_attention, is_as_accurate_as_16_bit_floats) {
    for (const uint32_t head_dim : {16U, 64U, 128U, 256U}) {
        for (const uint32_t tokens : {1U, 2U, 63U, 64U, 65U, 300U, 2048U}) {
            EXPECT_LT(attention_error(head_dim, tokens, 0.0F), 1.2e-3) << head_dim << ", " << tokens;
        }
    }
}

TEST(reference_attention, keeps_its_accuracy_when_all_keys_are_moved_far) {
    EXPECT_LT(attention_error(64, 500, 50.0F), 4e-3);
}

// Relative root mean square error of a linear layer against float64 over the same dequantised weights.
double linear_error(TestRandom& random, WeightType type, ActivationBits bits, const std::vector<float>& x) {
    constexpr uint32_t kRows = 200;
    const auto cols = static_cast<uint32_t>(x.size());
    const ActivationKind kind = activation_kind(type, bits);
    const std::vector<uint8_t> weights = test_matrix(random, type, kRows, cols);
    std::vector<int8_t> high(cols), low(cols);
    std::vector<float> scale(cols / 32), y(kRows), row(cols);
    std::vector<int32_t> high_sum(cols / 16), low_sum(cols / 16);
    const Kernels& kernels = reference::kernels();
    EXPECT_TRUE(kernels.quantise[static_cast<uint32_t>(kind)](
        x.data(), cols, {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()}));
    const size_t bytes = row_bytes(type, cols);
    kernels.linear[static_cast<uint32_t>(type)][static_cast<uint32_t>(kind)](
        {weights.data(),
         bytes,
         cols,
         1,
         {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()},
         y.data(),
         kRows},
        0, kRows);
    double difference = 0.0, size = 0.0;
    for (uint32_t r = 0; r < kRows; ++r) {
        kernels.embed[static_cast<uint32_t>(type)](weights.data() + r * bytes, cols, row.data());
        double want = 0.0;
        for (uint32_t c = 0; c < cols; ++c) want += double{row[c]} * x[c];
        difference += (y[r] - want) * (y[r] - want);
        size += want * want;
    }
    return std::sqrt(difference / size);
}

std::vector<WeightType> types_that_multiply() {
    std::vector<WeightType> types;
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        if (!is_plain_float(static_cast<WeightType>(i))) types.push_back(static_cast<WeightType>(i));
    }
    return types;
}

TEST(reference_linear, rounds_activations_and_nothing_else) {
    TestRandom random(1);
    constexpr uint32_t kCols = 1024;
    for (const WeightType type : types_that_multiply()) {
        SCOPED_TRACE(weight_type_name(type));
        // Activations that every kind holds exactly: then only the float sums round.
        std::vector<float> x(kCols);
        for (uint32_t i = 0; i < kCols; ++i)
            x[i] = i % 32 == 0 ? 127.0F : static_cast<float>(random.below(255)) - 127.0F;
        EXPECT_LT(linear_error(random, type, ActivationBits::k8, x), 1e-6);
        EXPECT_LT(linear_error(random, type, ActivationBits::k16, x), 1e-6);
    }
}

// Weights of a file against their copy in W16, relative root mean square. Every 256th weight is `outlier` times as
// large.
double w16_error(WeightType type, float outlier) {
    TestRandom random(3);
    constexpr uint32_t kRows = 100, kCols = 1024;
    std::vector<uint8_t> bytes(kRows * row_bytes(type, kCols));
    for (uint32_t i = 0; i < kRows * kCols; ++i) {
        const float x = 0.02F * normal(random) * (i % 256 == 0 ? outlier : 1.0F);
        const uint16_t half = type == WeightType::kF16 ? float_to_half(x) : float_to_bf16(x);
        if (type == WeightType::kF32) std::memcpy(&bytes[size_t{4} * i], &x, sizeof(x));
        if (type != WeightType::kF32) std::memcpy(&bytes[size_t{2} * i], &half, sizeof(half));
    }
    std::vector<uint8_t> copy(kRows * row_bytes(WeightType::kW16, kCols));
    EXPECT_TRUE(weights_to_w16({type, kRows, kCols, bytes}, copy).ok());
    EXPECT_TRUE(check_weights({WeightType::kW16, kRows, kCols, copy}).ok());
    const Kernels& kernels = reference::kernels();
    std::vector<float> want(kCols), got(kCols);
    double difference = 0.0, size = 0.0;
    for (uint32_t r = 0; r < kRows; ++r) {
        kernels.embed[static_cast<uint32_t>(type)](&bytes[r * row_bytes(type, kCols)], kCols, want.data());
        kernels.embed[static_cast<uint32_t>(WeightType::kW16)](&copy[r * row_bytes(WeightType::kW16, kCols)], kCols,
                                                               got.data());
        for (uint32_t begin = 0; begin < kCols; begin += kSuperBlock) {
            float most = 0.0F;
            for (uint32_t c = begin; c < begin + kSuperBlock; ++c) most = std::max(most, std::fabs(want[c]));
            for (uint32_t c = begin; c < begin + kSuperBlock; ++c) {
                const double error = double{got[c]} - want[c];
                EXPECT_LE(std::fabs(error), most * 0x1p-15 * 1.004);  // the rule's bound: half a unit of 2^e
                const float exact_from = type == WeightType::kBF16  ? 0x1p-6F
                                         : type == WeightType::kF16 ? 0x1p-3F
                                                                    : 2.0F;
                const bool large = std::fabs(want[c]) >= most * exact_from && want[c] != 0.0F;
                EXPECT_TRUE(!large || error == 0.0) << want[c];
                difference += error * error;
                size += double{want[c]} * want[c];
            }
        }
    }
    return std::sqrt(difference / size);
}

TEST(reference_linear, w16_is_more_exact_than_16_bit_floats_are) {
    EXPECT_LT(w16_error(WeightType::kF32, 1.0F), 4e-5);
    EXPECT_LT(w16_error(WeightType::kF16, 1.0F), 2e-5);
    EXPECT_LT(w16_error(WeightType::kBF16, 1.0F), 6e-6);
    EXPECT_LT(w16_error(WeightType::kF32, 100.0F), 2.5e-4);
    EXPECT_LT(w16_error(WeightType::kF16, 100.0F), 2.5e-4);
    EXPECT_LT(w16_error(WeightType::kBF16, 100.0F), 2.5e-4);
}

TEST(reference_linear, errors_are_those_of_8_and_16_bits) {
    TestRandom random(2);
    for (const WeightType type : types_that_multiply()) {
        SCOPED_TRACE(weight_type_name(type));
        const std::vector<float> x = normals(random, 1024);
        EXPECT_LT(linear_error(random, type, ActivationBits::k8, x), 1.2e-2);
        EXPECT_LT(linear_error(random, type, ActivationBits::k16, x), 6e-5);
    }
}

}  // namespace
}  // namespace driftwood::compute
