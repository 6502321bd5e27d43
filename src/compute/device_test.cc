#include "compute/device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "compute/cpu/gemm.h"
#include "compute/engine_test.h"
#include "compute/half.h"
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

TEST(device, that_this_machine_lacks_is_refused_with_what_it_needs_and_what_to_use) {
    for (const DeviceInfo& info : devices()) {
        const auto made = make_device(info.name);
        ASSERT_EQ(made.ok(), info.available) << info.name;
        if (info.available) continue;
        EXPECT_EQ(made.error().code, ErrorCode::kUnsupported);
        EXPECT_NE(made.error().message.find(info.needs), std::string::npos) << made.error().message;
        EXPECT_NE(made.error().message.find("use cpu"), std::string::npos) << made.error().message;
    }
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
#elif defined(DRIFTWOOD_ARM)
    all.push_back({"neon", &neon::gemm_kernels(), true});
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
    LazyPool pool(3, [] {});
    CpuGemm gemm(*GetParam().kernels, pool);
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
        LazyPool pool(threads, [] {});
        CpuGemm gemm(*GetParam().kernels, pool);
        // Just below, at and above the borders of blocks: rows, columns and depth.
        expect_bits_of_reference(gemm, random, {503, 33, 255}, 0);
        expect_bits_of_reference(gemm, random, {505, 31, 256}, 2);
        expect_bits_of_reference(gemm, random, {13, 513, 257}, 0);
        expect_bits_of_reference(gemm, random, {7, 1025, 513}, 2);
        expect_bits_of_reference(gemm, random, {97, 96, 1030}, 3);
        expect_bits_of_reference(gemm, random, {200, 210, 40}, 1);
        // Strips of columns that stay packed for the blocks below, with other numbers each time.
        expect_bits_of_reference(gemm, random, {260, 270, 600}, 0);
        expect_bits_of_reference(gemm, random, {260, 270, 600}, 3);
        expect_bits_of_reference(gemm, random, {1, 700, 1500}, 2);
        expect_bits_of_reference(gemm, random, {1100, 1, 1000}, 2);
    }
}

constexpr ElementType kTypes[] = {ElementType::kF32, ElementType::kF16, ElementType::kBf16};

// A matrix of any type as bytes.
struct AnyMatrix {
    ElementType type;
    std::vector<float> floats;
    std::vector<uint16_t> halves;

    AnyMatrix(TestRandom& random, ElementType of, size_t count, int style) : type(of) {
        for (const float x : numbers(random, count, style)) {
            if (type == ElementType::kF32) {
                floats.push_back(x);
            } else if (style == 1) {
                halves.push_back(static_cast<uint16_t>(random.bits()));
            } else {
                halves.push_back(type == ElementType::kF16 ? float_to_half(x) : float_to_bf16(x));
            }
        }
    }
    void* data() { return floats.empty() ? static_cast<void*>(halves.data()) : floats.data(); }
    bool same_bytes(const AnyMatrix& other) const { return same_bits(floats, other.floats) && halves == other.halves; }
};

// All types of all three matrices, transposed or not, with and without the old C.
TEST_P(GemmOf, has_the_bits_of_the_reference_in_every_type_and_transposed) {
    TestRandom random(4);
    LazyPool pool(2, [] {});
    CpuGemm gemm(*GetParam().kernels, pool);
    for (int run = 0; run < 3 * 3 * 3 * 2 * 2 * 2 * 3; ++run) {
        int rest = run;
        const auto pick = [&rest](int of) { return std::exchange(rest, rest / of) % of; };
        GemmArgs args{.a_type = kTypes[pick(3)], .b_type = kTypes[pick(3)], .c_type = kTypes[pick(3)]};
        args.a_transpose = static_cast<Transpose>(pick(2));
        args.b_transpose = static_cast<Transpose>(pick(2));
        args.accumulate = pick(2) == 1;
        // Small ordinary, small with any bits, and across a border of depth with ragged edges.
        const int style = pick(3);
        const auto below = [&random](uint64_t limit) { return static_cast<uint32_t>(1 + random.bits() % limit); };
        args.m = below(40), args.n = below(70), args.k = style == 2 ? 250 + below(20) : below(40);
        const bool ta = args.a_transpose == Transpose::kYes, tb = args.b_transpose == Transpose::kYes;
        args.lda = (ta ? args.m : args.k) + below(4) - 1;
        args.ldb = (tb ? args.k : args.n) + below(4) - 1;
        args.ldc = args.n + below(4) - 1;
        AnyMatrix a(random, args.a_type, size_t{ta ? args.k : args.m} * args.lda, style);
        AnyMatrix b(random, args.b_type, size_t{tb ? args.n : args.k} * args.ldb, style);
        AnyMatrix want(random, args.c_type, size_t{args.m} * args.ldc + 64, style);
        AnyMatrix got = want;
        args.a = a.data(), args.b = b.data(), args.c = got.data();
        gemm.run(args);
        args.c = want.data();
        reference::gemm(args);
        ASSERT_TRUE(got.same_bytes(want)) << args.m << " x " << args.n << " x " << args.k << ", run " << run;
    }
}

TEST_P(GemmOf, widens_every_16_bit_number_and_rounds_every_float_as_the_reference) {
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    std::vector<float> f16(all.size()), bf16(all.size());
    GetParam().kernels->widen_f16(all.data(), f16.data(), static_cast<uint32_t>(all.size()));
    GetParam().kernels->widen_bf16(all.data(), bf16.data(), static_cast<uint32_t>(all.size()));
    for (size_t i = 0; i < all.size(); ++i) {
        EXPECT_TRUE(std::isnan(f16[i]) ? std::isnan(half_to_float(all[i]))
                                       : float_bits(f16[i]) == float_bits(half_to_float(all[i])))
            << i;
        EXPECT_EQ(float_bits(bf16[i]), uint32_t{all[i]} << 16);
    }
    // Every pattern of the upper half and of what decides about rounding.
    for (const uint32_t low :
         {0x0000U, 0x0001U, 0x0FFFU, 0x1000U, 0x1001U, 0x2000U, 0x3000U, 0x7FFFU, 0x8000U, 0x8001U, 0xF000U, 0xFFFFU}) {
        std::vector<float> in(all.size());
        for (size_t i = 0; i < in.size(); ++i) {
            in[i] = bits_float(static_cast<uint32_t>(i) << 16 | low);
            if (std::isnan(in[i])) in[i] = __builtin_nanf("");
        }
        std::vector<uint16_t> half(in.size()), brain(in.size());
        GetParam().kernels->narrow_f16(in.data(), half.data(), static_cast<uint32_t>(in.size()));
        GetParam().kernels->narrow_bf16(in.data(), brain.data(), static_cast<uint32_t>(in.size()));
        for (size_t i = 0; i < in.size(); ++i) {
            ASSERT_EQ(half[i], float_to_half(in[i])) << in[i];
            ASSERT_EQ(brain[i], float_to_bf16(in[i])) << in[i];
        }
    }
}

INSTANTIATE_TEST_SUITE_P(isa, GemmOf, ::testing::ValuesIn(candidates()),
                         [](const auto& info) { return std::string(info.param.name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GemmOf);

// ---- what a guest may ask for

GemmF32 small_gemm() {
    return {.a_offset = 0, .b_offset = 256, .c_offset = 512, .m = 4, .n = 4, .k = 4, .lda = 4, .ldb = 4, .ldc = 4};
}

constexpr ErrorCode kOutside = ErrorCode::kLimit;

void expect_refused(GemmF32 gemm, const std::string& named, ErrorCode code = ErrorCode::kInvalidArgument) {
    const auto result = check_gemm(gemm, 1024);
    ASSERT_FALSE(result.ok()) << named;
    EXPECT_EQ(result.error().code, code);
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
    expect_refused(changed([](GemmF32& g) { g.b_offset = 1028; }), "b offset", kOutside);
    expect_refused(changed([](GemmF32& g) { g.c_offset = ~uint64_t{3}; }), "c offset", kOutside);
    expect_refused(changed([](GemmF32& g) { g.c_offset = 1024 - 60; }), "c:", kOutside);
    expect_refused(changed([](GemmF32& g) { g.lda = 3; }), "lda");
    expect_refused(changed([](GemmF32& g) { g.ldb = 3; }), "ldb");
    expect_refused(changed([](GemmF32& g) { g.ldc = 3; }), "ldc");
    expect_refused(changed([](GemmF32& g) { g.lda = 100; }), "a:", kOutside);
    // Extents whose bytes would overflow 64 bits.
    expect_refused(changed([&](GemmF32& g) { g.m = huge, g.lda = huge; }), "a:", kOutside);
    expect_refused(changed([&](GemmF32& g) { g.k = huge, g.lda = huge, g.ldb = huge; }), "a:", kOutside);
    expect_refused(changed([&](GemmF32& g) { g.n = huge, g.ldb = huge, g.ldc = huge; }), "b:", kOutside);
}

TEST(check_gemm, knows_types_and_transposes) {
    // 16-bit numbers take half the room and need half the alignment.
    GemmF32 gemm = small_gemm();
    gemm.c_type = ElementType::kF16;
    gemm.c_offset = 1024 - 32;
    EXPECT_TRUE(check_gemm(gemm, 1024).ok());
    EXPECT_FALSE(check_gemm(gemm, 1023).ok());
    gemm.c_offset = 1024 - 34;
    EXPECT_TRUE(check_gemm(gemm, 1024).ok());
    gemm.c_offset = 1024 - 33;
    expect_refused(gemm, "c offset");
    gemm = small_gemm();
    gemm.b_type = static_cast<ElementType>(3);
    expect_refused(gemm, "b type");
    gemm = small_gemm();
    gemm.b_transpose = static_cast<Transpose>(2);
    expect_refused(gemm, "transpose");

    // A [2, 7] stored as [7, 2], B [7, 3] stored as [3, 7].
    gemm = {.a_offset = 0, .b_offset = 56, .c_offset = 140, .m = 2, .n = 3, .k = 7, .lda = 2, .ldb = 7, .ldc = 3};
    gemm.a_transpose = gemm.b_transpose = Transpose::kYes;
    EXPECT_TRUE(check_gemm(gemm, 164).ok());
    EXPECT_FALSE(check_gemm(gemm, 163).ok());
    GemmF32 narrow = gemm;
    narrow.ldb = 6;
    expect_refused(narrow, "ldb");
    narrow = gemm;
    narrow.lda = 1;
    expect_refused(narrow, "lda");
    gemm.b_offset = 52;
    gemm.a_offset = 0;
    gemm.c_offset = 48;
    expect_refused(gemm, "c:");
}

TEST(device, f16_product_lands_in_a_region_rounded_once) {
    // 2049 is no f16: it lies half-way and goes to the even 2048.
    for (const char* name : {"reference", "cpu"}) {
        memory::Region region = make_region(65536);
        auto* a = reinterpret_cast<uint16_t*>(region.base());
        auto* b = a + 2;
        a[0] = float_to_half(2048.0F), a[1] = float_to_half(1.0F);
        b[0] = b[1] = float_to_half(1.0F);
        Gemm gemm{.a_offset = 0, .b_offset = 4, .c_offset = 8, .m = 1, .n = 1, .k = 2, .lda = 2, .ldb = 1, .ldc = 1};
        gemm.a_type = gemm.b_type = gemm.c_type = ElementType::kF16;
        ASSERT_TRUE(make_device(name).value()->gemm(region, gemm).ok());
        EXPECT_EQ(half_to_float(a[4]), 2048.0F);
        // The old C takes part before the rounding: 2048 + 2049 = 4097, which goes down to 4096.
        gemm.accumulate = true;
        ASSERT_TRUE(make_device(name).value()->gemm(region, gemm).ok());
        EXPECT_EQ(half_to_float(a[4]), 4096.0F);
    }
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
