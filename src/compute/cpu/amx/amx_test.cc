// The AMX kernels over emulated tiles (emulated_tiles.h) against the reference, by memcmp: all but the tile
// instructions themselves, on any machine with AVX-512. Real tiles are tested by kernels_test.cc and bench/isa_check
// where there are any.
#include "compute/cpu/amx/amx.h"

#include <gtest/gtest.h>

#include <vector>

#include "compute/cpu/features.h"
#include "compute/reference/reference.h"
#include "compute/row_buffer.h"
#include "compute/test_numbers.h"

namespace driftwood::compute {
namespace {

std::vector<float> product(LinearKernel kernel, const LayerPair& pair, const std::vector<uint8_t>& weights,
                           uint32_t rows, uint32_t cols, const Quantised& x, uint32_t cut) {
    const auto tokens = static_cast<uint32_t>(x.high.size() / cols);
    std::vector<float> y(size_t{tokens} * rows, -1.0F);
    const Linear args{weights.data(), row_bytes(pair.type, cols), cols, tokens, x.view(), y.data(), rows};
    if (cut > 0) kernel(args, 0, cut);
    kernel(args, cut, rows);
    return y;
}

void expect_same_product(const LayerPair& pair, const std::vector<uint8_t>& weights, uint32_t rows, uint32_t cols,
                         const std::vector<float>& activations) {
    const LinearKernel kernel = amx::tiles_kernel(pair.type, pair.kind);
    ASSERT_NE(kernel, nullptr);
    const LinearKernel reference =
        reference::kernels().linear[static_cast<uint32_t>(pair.type)][static_cast<uint32_t>(pair.kind)];
    const Quantised x(reference::kernels(), pair.kind, activations, cols);
    const std::vector<float> got = product(kernel, pair, weights, rows, cols, x, rows / 3);
    const std::vector<float> want = product(reference, pair, weights, rows, cols, x, 0);
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
        << weight_type_name(pair.type) << " x " << kKindNames[static_cast<uint32_t>(pair.kind)] << ", " << rows << " x "
        << cols << ", " << activations.size() / cols << " tokens";
}

class AmxTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!cpu_has_avx512()) GTEST_SKIP() << "this machine has no AVX-512";
    }
};

TEST_F(AmxTest, linear_layers_over_emulated_tiles_have_the_bits_of_the_reference) {
    TestRandom random(41);
    for (const LayerPair& pair : layer_pairs()) {
        for (const uint32_t cols : {32U, 224U, 256U, 544U, 1024U}) {
            if (!cols_fit(pair.type, cols)) continue;
            for (const uint32_t rows : {1U, 17U, 45U}) {
                const std::vector<uint8_t> weights = test_matrix(random, pair.type, rows, cols);
                for (const uint32_t tokens : {1U, 16U, 21U, 270U}) {
                    if (tokens == 270 && (rows != 1 || cols > 256)) continue;
                    expect_same_product(pair, weights, rows, cols, hard_floats(random, cols * tokens, 0));
                }
            }
        }
    }
}

TEST_F(AmxTest, hostile_weights_over_emulated_tiles_give_the_bits_of_the_reference) {
    TestRandom random(42);
    for (const LayerPair& pair : layer_pairs()) {
        const uint32_t cols = cols_fit(pair.type, 288) ? 288 : 512;
        for (uint32_t style = 0; style <= kStyles; ++style) {
            for (uint32_t extreme = 0; extreme < static_cast<uint32_t>(Extreme::kCount); ++extreme) {
                const auto weights = extreme_matrix(random, pair.type, 19, cols, static_cast<Extreme>(extreme));
                expect_same_product(pair, weights, 19, cols, hard_floats(random, cols * 18, style));
            }
        }
        const auto weights = extreme_matrix(random, pair.type, 33, 512, Extreme::kLargestIntegers);
        for (const float x : {127.0F, -127.0F, 32639.0F, -32639.0F, 32384.0F, -32384.0F}) {
            std::vector<float> activations(512 * 17, x);
            for (size_t i = 0; i < activations.size(); i += 256) activations[i] = 32639.0F;  // the scale is 1
            expect_same_product(pair, weights, 33, 512, activations);
        }
    }
}

// Results that lie so far apart that whole lines of them go past the caches.
TEST_F(AmxTest, results_that_stream_have_the_bits_of_the_reference_wherever_they_begin) {
    TestRandom random(44);
    constexpr uint32_t kTokens = 37, kRows = 77, kCols = 512, kStride = 32768;
    for (const LayerPair& pair :
         {LayerPair{WeightType::kQ4_K, ActivationKind::kA256}, LayerPair{WeightType::kQ4S, ActivationKind::kA16},
          LayerPair{WeightType::kQ8_0, ActivationKind::kA32P}}) {
        const std::vector<uint8_t> weights = test_matrix(random, pair.type, kRows, kCols);
        const Quantised x(reference::kernels(), pair.kind, hard_floats(random, kCols * kTokens, 0), kCols);
        const LinearKernel reference =
            reference::kernels().linear[static_cast<uint32_t>(pair.type)][static_cast<uint32_t>(pair.kind)];
        const std::vector<float> want = product(reference, pair, weights, kRows, kCols, x, 0);
        for (const uint32_t shift : {0U, 1U}) {  // of the results' beginning, in floats
            for (const uint32_t cut : {0U, 15U, 32U}) {
                RowBuffer<float> y(size_t{kTokens} * kStride + shift, -1.0F);
                const Linear args{
                    weights.data(), row_bytes(pair.type, kCols), kCols, kTokens, x.view(), y.data() + shift, kStride};
                amx::tiles_kernel(pair.type, pair.kind)(args, 0, cut);
                amx::tiles_kernel(pair.type, pair.kind)(args, cut, kRows);
                for (uint32_t t = 0; t < kTokens; ++t) {
                    const float* const row = args.y + size_t{t} * kStride;
                    EXPECT_EQ(std::memcmp(row, &want[size_t{t} * kRows], kRows * sizeof(float)), 0) << t;
                    EXPECT_EQ(row[kRows], -1.0F);
                }
            }
        }
    }
}

}  // namespace
}  // namespace driftwood::compute
