#include "compute/device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "compute/cpu/gemm.h"
#include "compute/engine_test.h"
#include "compute/reference/reference.h"
#include "compute/test_spec.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#include "compute/cpu/features.h"
#endif

namespace driftwood::compute {
namespace {

memory::Region make_region(size_t size) {
    auto region = memory::Region::reserve(size).value();
    region.grow(size).value();
    return region;
}

TEST(device, addresses_a_region_at_its_own_pointer) {
    const memory::Region region = make_region(65536);
    for (const char* name : {"reference", "cpu"}) {
        EXPECT_EQ(make_device(name).value()->address(region), region.base());
    }
    EXPECT_EQ(make_device("abacus").error().code, ErrorCode::kNotFound);
}

TEST(device, gemm_of_128_is_right_to_float64_and_the_same_on_both_devices) {
    constexpr uint32_t kN = 128;
    constexpr uint64_t kBytes = kN * kN * sizeof(float);
    std::vector<float> results[2];
    for (int which = 0; which < 2; ++which) {
        memory::Region region = make_region(3 * kBytes);
        auto* a = reinterpret_cast<float*>(region.base());
        float* b = a + kN * kN;
        float* c = b + kN * kN;
        TestRandom random(1);
        for (uint32_t i = 0; i < 2 * kN * kN; ++i) a[i] = random.uniform();
        GemmF32 gemm{.a_offset = 0, .b_offset = kBytes, .c_offset = 2 * kBytes, .m = kN, .n = kN, .k = kN};
        gemm.lda = gemm.ldb = gemm.ldc = kN;
        ASSERT_TRUE(make_device(which == 0 ? "reference" : "cpu").value()->gemm(region, gemm).ok());
        for (uint32_t i = 0; i < kN; ++i) {
            for (uint32_t j = 0; j < kN; ++j) {
                double sum = 0.0;
                for (uint32_t p = 0; p < kN; ++p) sum += double{a[i * kN + p]} * b[p * kN + j];
                ASSERT_NEAR(c[i * kN + j], sum, 1e-5);
            }
        }
        results[which].assign(c, c + kN * kN);
    }
    EXPECT_TRUE(same_bits(results[0], results[1]));
}

// ---- kernels against the reference

struct Candidate {
    const char* name;
    const GemmKernels* kernels;
    bool available;
};

std::vector<Candidate> candidates() {
    std::vector<Candidate> all;
#if defined(DRIFTWOOD_X86)
    all.push_back({"avx512", &avx512::gemm_kernels(), cpu_has_avx512()});
    all.push_back({"avx2", &avx2::gemm_kernels(), cpu_has_avx2()});
#endif
    return all;
}

class GemmOf : public ::testing::TestWithParam<Candidate> {
  protected:
    void SetUp() override {
        if (!GetParam().available) GTEST_SKIP() << "this machine has no " << GetParam().name;
    }
};

// Style 0: ordinary; 1: any bits, so infinities, subnormals and NaNs too.
std::vector<float> numbers(TestRandom& random, size_t count, int style) {
    std::vector<float> values(count);
    for (float& x : values)
        x = style == 0 ? random.uniform() : std::bit_cast<float>(static_cast<uint32_t>(random.bits()));
    return values;
}

struct Shape {
    uint32_t m, n, k;
};

// The whole buffer of C is compared, with what lies between and behind its rows.
void expect_bits_of_reference(CpuGemm& gemm, TestRandom& random, Shape s, int style) {
    const uint32_t lda = s.k + style, ldb = s.n + 2 * style, ldc = s.n + style;
    const auto a = numbers(random, size_t{s.m} * lda + 1, style % 2);
    const auto b = numbers(random, size_t{s.k} * ldb + 1, style % 2);
    const auto c = numbers(random, size_t{s.m} * ldc + 64, 0);
    std::vector<float> got = c, want = c;
    GemmArgs args{.a = a.data(), .b = b.data(), .c = got.data(), .m = s.m, .n = s.n, .k = s.k};
    args.lda = lda, args.ldb = ldb, args.ldc = ldc;
    args.accumulate = style >= 2;
    gemm.run(args);
    args.c = want.data();
    reference::gemm(args);
    EXPECT_TRUE(same_bits(got, want)) << s.m << " x " << s.n << " x " << s.k << ", style " << style;
}

TEST_P(GemmOf, has_the_bits_of_the_reference_and_touches_nothing_else) {
    TestRandom random(2);
    CpuGemm gemm(*GetParam().kernels, 3);
    for (const uint32_t m : {1U, 2U, 5U, 6U, 11U, 12U, 13U, 29U}) {
        for (const uint32_t n : {1U, 7U, 16U, 17U, 32U, 45U}) {
            for (const uint32_t k : {0U, 1U, 31U}) {
                for (int style = 0; style < 4; ++style) expect_bits_of_reference(gemm, random, {m, n, k}, style);
            }
        }
    }
}

TEST_P(GemmOf, has_the_bits_of_the_reference_across_blocks_and_threads) {
    TestRandom random(3);
    for (const uint32_t threads : {1U, 4U}) {
        CpuGemm gemm(*GetParam().kernels, threads);
        // Just below, at and above the borders of blocks: rows, columns and depth.
        expect_bits_of_reference(gemm, random, {503, 33, 255}, 0);
        expect_bits_of_reference(gemm, random, {505, 31, 256}, 2);
        expect_bits_of_reference(gemm, random, {13, 513, 257}, 0);
        expect_bits_of_reference(gemm, random, {7, 1025, 513}, 2);
        expect_bits_of_reference(gemm, random, {97, 96, 1030}, 3);
        expect_bits_of_reference(gemm, random, {200, 210, 40}, 1);
        expect_bits_of_reference(gemm, random, {1, 700, 1500}, 2);
        expect_bits_of_reference(gemm, random, {1100, 1, 1000}, 2);
    }
}

INSTANTIATE_TEST_SUITE_P(isa, GemmOf, ::testing::ValuesIn(candidates()),
                         [](const auto& info) { return std::string(info.param.name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GemmOf);

// ---- what a guest may ask for

GemmF32 small_gemm() {
    return {.a_offset = 0, .b_offset = 256, .c_offset = 512, .m = 4, .n = 4, .k = 4, .lda = 4, .ldb = 4, .ldc = 4};
}

void expect_refused(GemmF32 gemm, const std::string& named) {
    const auto result = check_gemm(gemm, 1024);
    ASSERT_FALSE(result.ok()) << named;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find(named), std::string::npos) << result.error().message;
}

TEST(check_gemm, accepts_what_fits_to_the_last_byte) {
    GemmF32 gemm = small_gemm();
    gemm.c_offset = 1024 - 64;
    EXPECT_TRUE(check_gemm(gemm, 1024).ok());
    EXPECT_FALSE(check_gemm(gemm, 1023).ok());
    gemm.m = 0;
    gemm.c_offset = 1024;
    EXPECT_TRUE(check_gemm(gemm, 1024).ok());
}

TEST(check_gemm, refuses_what_does_not) {
    const uint32_t huge = std::numeric_limits<uint32_t>::max();
    const auto changed = [](auto change) {
        GemmF32 gemm = small_gemm();
        change(gemm);
        return gemm;
    };
    expect_refused(changed([](GemmF32& g) { g.a_offset = 2; }), "a offset");
    expect_refused(changed([](GemmF32& g) { g.b_offset = 1028; }), "b offset");
    expect_refused(changed([](GemmF32& g) { g.c_offset = ~uint64_t{3}; }), "c offset");
    expect_refused(changed([](GemmF32& g) { g.c_offset = 1024 - 60; }), "c:");
    expect_refused(changed([](GemmF32& g) { g.lda = 3; }), "lda");
    expect_refused(changed([](GemmF32& g) { g.ldb = 3; }), "ldb");
    expect_refused(changed([](GemmF32& g) { g.ldc = 3; }), "ldc");
    expect_refused(changed([](GemmF32& g) { g.lda = 100; }), "a:");
    // Extents whose bytes would overflow 64 bits.
    expect_refused(changed([&](GemmF32& g) { g.m = huge, g.lda = huge; }), "a:");
    expect_refused(changed([&](GemmF32& g) { g.k = huge, g.lda = huge, g.ldb = huge; }), "a:");
    expect_refused(changed([&](GemmF32& g) { g.n = huge, g.ldb = huge, g.ldc = huge; }), "b:");
}

TEST(check_gemm, refuses_a_result_that_overlaps_an_input) {
    for (const uint64_t c : {0U, 60U, 200U, 256U, 316U}) {
        GemmF32 gemm = small_gemm();
        gemm.c_offset = c;
        expect_refused(gemm, "c:");
    }
    GemmF32 between = small_gemm();
    between.c_offset = 64;
    EXPECT_TRUE(check_gemm(between, 1024).ok());
    between.c_offset = 192;
    EXPECT_TRUE(check_gemm(between, 1024).ok());
}

}  // namespace
}  // namespace driftwood::compute
