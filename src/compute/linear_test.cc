// Linear layers of every type of weights, the activations they read and rows of embeddings: every kernel of every
// instruction set this machine has, against the reference, by memcmp.
#include "compute/kernels_test.h"

namespace driftwood::compute {
namespace {

class LinearKernelsOf : public KernelsOf {};

TEST_P(LinearKernelsOf, activations_have_the_bits_of_the_reference) {
    for_hard_rows({32, 64, 96, 256, 288, 480, 1024}, [&](const std::vector<float>& x) {
        const auto n = static_cast<uint32_t>(x.size());
        for (const ActivationKind kind : kKinds) {
            SCOPED_TRACE(kKindNames[static_cast<uint32_t>(kind)]);
            const Quantised got(tested(), kind, x, n), want(reference_kernels(), kind, x, n);
            EXPECT_TRUE(got.finite && want.finite);
            EXPECT_TRUE(equal_bytes(got.high, want.high));
            EXPECT_TRUE(equal_bytes(got.scale, want.scale));
            EXPECT_TRUE(equal_bytes(got.high_sum, want.high_sum));
            if (kind != ActivationKind::kA16) continue;
            EXPECT_TRUE(equal_bytes(got.low, want.low));
            EXPECT_TRUE(equal_bytes(got.low_sum, want.low_sum));
        }
    });
}

std::string name_of(const LayerPair& pair) {
    return std::string(weight_type_name(pair.type)) + " x " + kKindNames[static_cast<uint32_t>(pair.kind)];
}

std::vector<float> product(const Kernels& kernels, const LayerPair& pair, const std::vector<uint8_t>& weights,
                           uint32_t rows, uint32_t cols, const Quantised& x, std::initializer_list<uint32_t> cuts) {
    const auto tokens = static_cast<uint32_t>(x.high.size() / cols);
    std::vector<float> y(size_t{tokens} * rows, -1.0F);
    const Linear args{weights.data(), row_bytes(pair.type, cols), cols, tokens, x.view(), y.data(), rows};
    const LinearKernel kernel = kernels.linear[static_cast<uint32_t>(pair.type)][static_cast<uint32_t>(pair.kind)];
    uint32_t begin = 0;
    for (const uint32_t end : cuts) {
        kernel(args, begin, end);
        begin = end;
    }
    kernel(args, begin, rows);
    return y;
}

void expect_same_product(const Kernels& kernels, const LayerPair& pair, const std::vector<uint8_t>& weights,
                         uint32_t rows, uint32_t cols, const std::vector<float>& activations) {
    const Quantised x(reference::kernels(), pair.kind, activations, cols);
    const std::vector<float> want = product(reference::kernels(), pair, weights, rows, cols, x, {});
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols) + ", " +
                 std::to_string(activations.size() / cols) + " tokens");
    EXPECT_TRUE(equal_bytes(product(kernels, pair, weights, rows, cols, x, {}), want));
    // What a row gives does not depend on where its task begins.
    EXPECT_TRUE(equal_bytes(product(kernels, pair, weights, rows, cols, x, {rows / 3}), want)) << "in two parts";
}

TEST_P(LinearKernelsOf, linear_layers_have_the_bits_of_the_reference) {
    TestRandom random(4);
    for (const LayerPair& pair : layer_pairs()) {
        SCOPED_TRACE(name_of(pair));
        for (const uint32_t cols : {32U, 64U, 224U, 256U, 288U, 512U, 544U, 1024U, 1056U}) {
            if (!cols_fit(pair.type, cols)) continue;
            for (const uint32_t rows : {1U, 7U, 16U, 17U, 45U}) {
                const std::vector<uint8_t> weights = test_matrix(random, pair.type, rows, cols);
                for (const uint32_t tokens : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U, 67U}) {
                    if (tokens == 67 && rows != 17) continue;
                    expect_same_product(tested(), pair, weights, rows, cols, hard_floats(random, cols * tokens, 0));
                }
            }
        }
    }
}

// Numbers of tokens at which kernels change their way, and rows longer than what they unpack or keep sums of at once.
TEST_P(LinearKernelsOf, linear_layers_of_some_tokens_and_long_rows_have_the_bits_of_the_reference) {
    TestRandom random(15);
    for (const LayerPair& pair : layer_pairs()) {
        SCOPED_TRACE(name_of(pair));
        for (const auto& [rows, cols] : {std::pair{35U, 512U}, {33U, 2304U}, {35U, 2080U}, {2U, 33024U}}) {
            if (!cols_fit(pair.type, cols)) continue;
            const std::vector<uint8_t> weights = test_matrix(random, pair.type, rows, cols);
            const std::vector<float> x = hard_floats(random, cols * 33, 0);
            for (const uint32_t tokens : {1U, 2U, 10U, 11U, 12U, 13U, 15U, 16U, 17U, 33U}) {
                if (cols == 33024 && tokens > 2 && tokens != 17) continue;
                expect_same_product(tested(), pair, weights, rows, cols, {x.begin(), x.begin() + cols * tokens});
            }
        }
    }
}

TEST_P(LinearKernelsOf, linear_layers_have_the_bits_of_the_reference_at_the_ends_of_their_range) {
    TestRandom random(5);
    constexpr uint32_t kRows = 19;
    for (const LayerPair& pair : layer_pairs()) {
        SCOPED_TRACE(name_of(pair));
        const uint32_t cols = cols_fit(pair.type, 288) ? 288 : 512;
        for (uint32_t style = 0; style <= kStyles; ++style) {
            for (uint32_t extreme = 0; extreme < static_cast<uint32_t>(Extreme::kCount); ++extreme) {
                const auto weights = extreme_matrix(random, pair.type, kRows, cols, static_cast<Extreme>(extreme));
                ASSERT_TRUE(check_weights({pair.type, kRows, cols, weights}).ok());
                for (const uint32_t tokens : {1U, 6U, 18U}) {
                    expect_same_product(tested(), pair, weights, kRows, cols,
                                        hard_floats(random, cols * tokens, style));
                }
            }
        }
    }
}

// Activations whose digits are all largest, one way or the other: with the largest weights, every integer sum is at its
// bound.
TEST_P(LinearKernelsOf, linear_layers_have_the_bits_of_the_reference_when_all_numbers_are_largest) {
    TestRandom random(14);
    constexpr uint32_t kCols = 512;
    for (const LayerPair& pair : layer_pairs()) {
        SCOPED_TRACE(name_of(pair));
        const auto weights = extreme_matrix(random, pair.type, 33, kCols, Extreme::kLargestIntegers);
        for (const float x : {127.0F, -127.0F, 32639.0F, -32639.0F, 32512.0F - 128.0F, 128.0F - 32512.0F}) {
            for (const uint32_t tokens : {1U, 18U}) {  // few and many may be different kernels
                std::vector<float> activations(kCols * tokens, x);
                expect_same_product(tested(), pair, weights, 33, kCols, activations);
                for (size_t i = 0; i < activations.size(); i += 256) activations[i] = 32639.0F;  // the scale is 1
                expect_same_product(tested(), pair, weights, 33, kCols, activations);
            }
        }
    }
}

TEST_P(LinearKernelsOf, linear_q8_0_sums_are_exact_when_all_numbers_are_largest) {
    constexpr uint32_t kCols = 512;
    std::vector<uint8_t> weights(size_t{16} * kCols / 32 * 34, 0x80);
    for (size_t block = 0; block < weights.size(); block += 34) {
        weights[block] = 0x00;
        weights[block + 1] = 0x3C;  // 1.0
    }
    const LayerPair pair{WeightType::kQ8_0, ActivationKind::kA32P};
    const Quantised x(tested(), pair.kind, std::vector<float>(kCols, std::nextafter(128.0F, 0.0F)), kCols);
    for (const float value : product(tested(), pair, weights, 16, kCols, x, {})) {
        EXPECT_EQ(value, -128.0F * 127.0F * kCols);
    }
}

TEST_P(LinearKernelsOf, embedding_rows_have_the_bits_of_the_reference) {
    TestRandom random(6);
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        SCOPED_TRACE(weight_type_name(type));
        for (const uint32_t cols : {32U, 256U, 288U, 1024U}) {
            if (!cols_fit(type, cols)) continue;
            for (uint32_t extreme = 0; extreme <= static_cast<uint32_t>(Extreme::kCount); ++extreme) {
                const bool plain = extreme == static_cast<uint32_t>(Extreme::kCount) || is_plain_float(type);
                std::vector<uint8_t> row = plain ? test_matrix(random, type, 1, cols)
                                                 : extreme_matrix(random, type, 1, cols, static_cast<Extreme>(extreme));
                if (type == WeightType::kF32) {
                    const std::vector<float> hard = hard_floats(random, cols, random.below(kStyles + 1));
                    std::memcpy(row.data(), hard.data(), row.size());
                }
                std::vector<float> got(cols), want(cols);
                tested().embed[i](row.data(), cols, got.data());
                reference_kernels().embed[i](row.data(), cols, want.data());
                EXPECT_TRUE(equal_bytes(got, want));
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(isa, LinearKernelsOf, ::testing::ValuesIn(tested_tables()),
                         [](const auto& info) { return std::string(info.param.kernels->name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LinearKernelsOf);

}  // namespace
}  // namespace driftwood::compute
