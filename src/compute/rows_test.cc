// Operations over rows: each device against the reference by its bits, and what a guest may ask for.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "compute/device.h"
#include "compute/engine_test.h"
#include "compute/math.h"
#include "compute/reference/reference.h"
#include "compute/test_spec.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/features.h"
#elif defined(DRIFTWOOD_ARM)
#include "compute/cpu/neon/neon.h"
#endif

namespace driftwood::compute {
namespace {

struct Candidate {
    const char* name;
    const RowKernels* kernels;
    bool available;
};

std::vector<Candidate> candidates() {
    std::vector<Candidate> all;
#if defined(DRIFTWOOD_X86)
    all.push_back({"avx512", &avx512::row_kernels(), cpu_has_avx512()});
    all.push_back({"avx2", &avx2::row_kernels(), cpu_has_avx2()});
#elif defined(DRIFTWOOD_ARM)
    all.push_back({"neon", &neon::row_kernels(), true});
#endif
    return all;
}

class RowsOf : public ::testing::TestWithParam<Candidate> {
  protected:
    void SetUp() override {
        if (!GetParam().available) GTEST_SKIP() << "this machine has no " << GetParam().name;
    }
};

// Style 0: ordinary; 1: any bits; 2: a wide range with a few infinities; 3: the same number everywhere.
std::vector<float> numbers(TestRandom& random, size_t count, int style) {
    std::vector<float> values(count);
    for (float& x : values) {
        x = random.uniform();
        if (style == 1) x = bits_float(static_cast<uint32_t>(random.bits()));
        if (style == 2) x = random.bits() % 50 == 0 ? -std::numeric_limits<float>::infinity() : 100.0F * x;
        if (style == 3) x = -0.0F;
    }
    return values;
}

TEST_P(RowsOf, have_the_bits_of_the_reference_and_touch_nothing_else) {
    TestRandom random(1);
    for (uint32_t kind = 0; kind < kRowKinds; ++kind) {
        for (const uint32_t n : {1U, 2U, 15U, 16U, 17U, 31U, 33U, 255U, 256U, 257U, 300U, 1000U}) {
            for (int style = 0; style < 4; ++style) {
                const auto x = numbers(random, n, style);
                const auto y = numbers(random, n, style == 3 ? 0 : style);
                const auto tail = numbers(random, n + 40, 0);
                std::vector<float> got = tail, want = tail;
                GetParam().kernels->of_kind[kind](x.data(), y.data(), got.data(), n, 1e-5F);
                reference::row_kernels().of_kind[kind](x.data(), y.data(), want.data(), n, 1e-5F);
                EXPECT_TRUE(same_bits(got, want)) << "kind " << kind << ", n " << n << ", style " << style;
                // In place of either operand.
                std::vector<float> over_x = x, over_y = y;
                GetParam().kernels->of_kind[kind](over_x.data(), y.data(), over_x.data(), n, 1e-5F);
                GetParam().kernels->of_kind[kind](x.data(), over_y.data(), over_y.data(), n, 1e-5F);
                want.resize(n);
                EXPECT_TRUE(same_bits(over_x, want)) << "over x: kind " << kind << ", n " << n << ", style " << style;
                EXPECT_TRUE(same_bits(over_y, want)) << "over y: kind " << kind << ", n " << n << ", style " << style;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(isa, RowsOf, ::testing::ValuesIn(candidates()),
                         [](const auto& info) { return std::string(info.param.name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RowsOf);

// ---- the reference against float64

TEST(rows, softmax_is_close_to_float64_and_sums_to_one) {
    TestRandom random(2);
    auto x = numbers(random, 777, 0);
    for (float& value : x) value *= 20.0F;
    double max = -1e30, total = 0.0, sum = 0.0;
    for (const float value : x) max = std::max(max, double{value});
    for (const float value : x) total += std::exp(value - max);
    std::vector<float> out(x.size());
    reference::row_kernels().of_kind[static_cast<int>(RowKind::kSoftmax)](x.data(), nullptr, out.data(), 777, 0.0F);
    for (size_t i = 0; i < x.size(); ++i) {
        const double want = std::exp(x[i] - max) / total;
        EXPECT_NEAR(out[i], want, 4e-6 * want) << i;  // x - max is rounded
        sum += out[i];
    }
    EXPECT_NEAR(sum, 1.0, 1e-6);
}

TEST(rows, softmax_without_a_finite_maximum_is_nan_with_one_pattern) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float odd : {infinity, bits_float(0xFFC12345U)}) {
        const float x[3] = {1.0F, odd, 2.0F};
        float out[3];
        reference::row_kernels().of_kind[static_cast<int>(RowKind::kSoftmax)](x, nullptr, out, 3, 0.0F);
        for (const float value : out) EXPECT_EQ(float_bits(value), 0x7FC00000U);
    }
}

// ---- devices

TEST(rows, of_a_region_are_normalised_in_place_with_one_weight_on_every_device) {
    std::vector<float> results[2];
    constexpr uint32_t kRows = 5, kCols = 300, kStride = 320;
    for (int which = 0; which < 2; ++which) {
        auto region = memory::Region::reserve(65536).value();
        region.grow(65536).value();
        auto* floats = reinterpret_cast<float*>(region.base());
        TestRandom random(3);
        for (int i = 0; i < 16384; ++i) floats[i] = random.uniform();
        const std::vector<float> before(floats, floats + 16384);
        Rows rows{.kind = RowKind::kRmsNorm, .x_offset = 4096, .y_offset = 0, .out_offset = 4096, .rows = kRows};
        rows.cols = kCols;
        rows.ldx = rows.ldout = kStride;
        rows.eps = 1e-5F;
        ASSERT_TRUE(make_device(which == 0 ? "reference" : "cpu").value()->rows(region, rows).ok());
        for (uint32_t r = 0; r < kRows; ++r) {
            double squares = 0.0;
            const float* x = before.data() + 1024 + size_t{r} * kStride;
            for (uint32_t c = 0; c < kCols; ++c) squares += double{x[c]} * x[c];
            for (uint32_t c = 0; c < kStride; ++c) {
                const float got = floats[1024 + r * kStride + c];
                const double want = c < kCols ? x[c] / std::sqrt(squares / kCols + 1e-5) * before[c] : x[c];
                ASSERT_NEAR(got, want, 1e-5) << r << ", " << c;
            }
        }
        results[which].assign(floats, floats + 16384);
    }
    EXPECT_TRUE(same_bits(results[0], results[1]));
}

// Pieces of rows and of columns, on one thread and on three.
TEST(rows, have_the_bits_of_the_reference_however_they_are_spread_over_threads) {
    struct Shape {
        uint32_t rows, cols, stride;
    };
    for (const Shape s :
         {Shape{1, 300'001, 300'001}, Shape{3, 70'000, 70'001}, Shape{200, 1000, 1003}, Shape{150'000, 1, 1}}) {
        const size_t plane = size_t{s.rows} * s.stride;
        for (uint32_t kind = 0; kind < kRowKinds; ++kind) {
            std::vector<float> results[3];
            for (int which = 0; which < 3; ++which) {
                auto region = memory::Region::reserve(3 * plane * sizeof(float)).value();
                region.grow(3 * plane * sizeof(float)).value();
                auto* floats = reinterpret_cast<float*>(region.base());
                TestRandom random(4);
                for (size_t i = 0; i < 3 * plane; ++i) floats[i] = random.uniform();
                Rows rows{.kind = static_cast<RowKind>(kind), .y_offset = plane * sizeof(float)};
                rows.out_offset = kind % 2 == 0 ? 2 * plane * sizeof(float) : 0;  // beside x, or in its place
                rows.rows = s.rows, rows.cols = s.cols;
                rows.ldx = rows.ldout = s.stride;
                rows.ldy = kind == static_cast<uint32_t>(RowKind::kRmsNorm) ? 0 : s.stride;
                rows.eps = 1e-5F;
                const auto device = make_device(which == 0 ? "reference" : "cpu", which == 1 ? 1 : 3).value();
                ASSERT_TRUE(device->rows(region, rows).ok());
                results[which].assign(floats, floats + 3 * plane);
            }
            EXPECT_TRUE(same_bits(results[0], results[1])) << kind << ": " << s.rows << " x " << s.cols;
            EXPECT_TRUE(same_bits(results[0], results[2])) << kind << ": " << s.rows << " x " << s.cols;
        }
    }
}

Rows small_rows() {
    return {.x_offset = 0, .y_offset = 64, .out_offset = 128, .rows = 4, .cols = 4, .ldx = 4, .ldy = 4, .ldout = 4};
}

template <class Change>
void expect_refused(Change change, const std::string& named, ErrorCode code = ErrorCode::kInvalidArgument) {
    Rows rows = small_rows();
    change(rows);
    const auto result = check_rows(rows, 192);
    ASSERT_FALSE(result.ok()) << named;
    EXPECT_EQ(result.error().code, code);
    EXPECT_NE(result.error().message.find("[compute.rows] " + named), std::string::npos) << result.error().message;
}

TEST(check_rows, accepts_what_fits_and_results_in_place) {
    EXPECT_TRUE(check_rows(small_rows(), 192).ok());
    EXPECT_FALSE(check_rows(small_rows(), 191).ok());
    Rows over_y = small_rows();
    over_y.out_offset = 64;
    EXPECT_TRUE(check_rows(over_y, 128).ok());
    Rows shared = small_rows();
    shared.y_offset = 192 - 16;
    shared.out_offset = 0;
    shared.ldy = 0;
    EXPECT_TRUE(check_rows(shared, 192).ok());
    EXPECT_FALSE(check_rows(shared, 191).ok());
    // Softmax has no y: whatever stands there is not looked at.
    Rows softmax = small_rows();
    softmax.kind = RowKind::kSoftmax;
    softmax.y_offset = ~uint64_t{0};
    EXPECT_TRUE(check_rows(softmax, 192).ok());
}

TEST(check_rows, refuses_what_does_not_fit_and_results_beside_themselves) {
    const uint32_t huge = std::numeric_limits<uint32_t>::max();
    expect_refused([](Rows& r) { r.kind = static_cast<RowKind>(kRowKinds); }, "kind");
    expect_refused([](Rows& r) { r.cols = kMaxRowValues + 1; }, "cols");
    expect_refused([](Rows& r) { r.x_offset = 2; }, "x offset");
    expect_refused([](Rows& r) { r.y_offset = ~uint64_t{3}; }, "y offset", ErrorCode::kLimit);
    expect_refused([](Rows& r) { r.ldx = 3; }, "ldx");
    expect_refused([](Rows& r) { r.ldy = 3; }, "ldy");
    expect_refused([](Rows& r) { r.ldout = 0; }, "ldout");
    expect_refused([&](Rows& r) { r.rows = huge, r.ldx = huge; }, "x:", ErrorCode::kLimit);
    expect_refused([](Rows& r) { r.out_offset = 4; }, "out:");
    expect_refused([](Rows& r) { r.out_offset = 68; }, "out:");
    expect_refused([](Rows& r) { r.out_offset = 0, r.ldout = 5; }, "out:");
    // One row of y for all rows cannot be the result of them.
    expect_refused([](Rows& r) { r.out_offset = 64, r.ldy = 0; }, "out:");
}

}  // namespace
}  // namespace driftwood::compute
