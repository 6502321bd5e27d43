#include "compute/math.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "compute/half.h"
#include "compute/rope_table.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

TEST(math, round_int_rounds_to_nearest_even) {
    EXPECT_EQ(round_int(0.5F), 0);
    EXPECT_EQ(round_int(1.5F), 2);
    EXPECT_EQ(round_int(-0.5F), 0);
    EXPECT_EQ(round_int(-2.5F), -2);
    EXPECT_EQ(round_int(4194303.0F), 4194303);
    EXPECT_EQ(round_float(-3.7F), -4.0F);
}

TEST(math, exp_is_close_to_the_exponential_and_cut_off_at_both_ends) {
    for (float x = -86.9F; x < 88.0F; x += 0.037F) {
        const double want = std::exp(static_cast<double>(x));
        EXPECT_NEAR(exp_f32(x) / want, 1.0, 3e-7) << x;
    }
    EXPECT_EQ(exp_f32(-87.0F), 0.0F);
    EXPECT_EQ(exp_f32(-std::numeric_limits<float>::infinity()), 0.0F);
    EXPECT_EQ(exp_f32(std::numeric_limits<float>::quiet_NaN()), 0.0F);
    EXPECT_EQ(exp_f32(std::numeric_limits<float>::infinity()), exp_f32(88.0F));
    EXPECT_EQ(exp_f32(0.0F), 1.0F);
}

TEST(math, exp2_of_attention_is_close_to_two_to_the_x) {
    for (float x = -64.0F; x <= 0.5F; x += 0.0113F)
        EXPECT_NEAR(exp2_attention(x) / std::exp2(double{x}), 1.0, 6e-6) << x;
    EXPECT_EQ(exp2_attention(0.0F), 1.0F);
    EXPECT_EQ(exp2_attention(-7.0F), 0x1p-7F);
}

TEST(math, silu_is_close_to_its_definition) {
    for (float g = -80.0F; g < 80.0F; g += 0.17F) {
        const double want = g / (1.0 + std::exp(-static_cast<double>(g)));
        EXPECT_NEAR(silu(g), want, 4e-7 * std::abs(want)) << g;
    }
}

TEST(math, ordered_sums_have_the_order_of_the_contract) {
    TestRandom random(1);
    for (const size_t count : {0, 1, 31, 33, 256, 300, 700}) {
        std::vector<float> x(count);
        double exact = 0.0;
        for (float& value : x) exact += value = random.uniform();
        EXPECT_NEAR(ordered_sum(x), exact, 1e-4);
    }
    // 2^24 swallows a one added to it; the order decides which ones are added before it is.
    std::vector<float> x(64, 1.0F);
    x[0] = 0x1p24F;
    // Lane 0: 2^24 + 1 = 2^24; lane 16 holds 2, the other lanes too: 2^24 + 2, then + 4, + 8, + 16, + 32.
    EXPECT_EQ(ordered_sum(x), 0x1p24F + 2 + 4 + 8 + 16 + 32);
}

TEST(half, all_values_convert_exactly) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto half = static_cast<uint16_t>(bits);
        const int exponent = (half >> 10) & 31;
        const int mantissa = half & 1023;
        const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
        const float got = half_to_float(half);
        EXPECT_EQ(half_is_finite(half), exponent != 31);
        if (exponent == 31) {
            EXPECT_EQ(std::isnan(got), mantissa != 0);
            continue;
        }
        const double want = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
        EXPECT_EQ(double{got}, sign * want) << bits;
        EXPECT_EQ(std::signbit(got), sign < 0);
    }
}

TEST(rope_table, is_right_to_float_for_positions_far_out) {
    std::vector<float> factors(32);
    for (size_t i = 0; i < factors.size(); ++i) factors[i] = 1.0F + static_cast<float>(i);
    for (const double theta : {1.0, 10000.0, 500000.0, 1e12}) {
        for (const bool with_factors : {false, true}) {
            const RopeTable table(theta, 64, with_factors ? std::span<const float>(factors) : std::span<const float>());
            for (const uint32_t position : {0U, 1U, 2U, 3U, 4U, 5U, 17U, 511U, 4096U, 131071U, (1U << 20) - 1}) {
                std::vector<float> cosine(32), sine(32);
                table.angles(position, cosine, sine);
                for (size_t i = 0; i < 32; ++i) {
                    long double angle = position * std::pow(static_cast<long double>(theta), -2.0L * i / 64);
                    if (with_factors) angle /= factors[i];
                    // An angle near 2^20 carries an error of about 2^-32.
                    EXPECT_NEAR(cosine[i], static_cast<double>(std::cos(angle)), 6e-8)
                        << theta << " " << position << " " << i;
                    EXPECT_NEAR(sine[i], static_cast<double>(std::sin(angle)), 6e-8)
                        << theta << " " << position << " " << i;
                }
            }
        }
    }
}

TEST(thread_pool, runs_every_task_once_and_shows_what_it_wrote) {
    for (const uint32_t threads : {1U, 2U, 5U}) {
        ThreadPool pool(threads, [] {});
        EXPECT_EQ(pool.threads(), threads);
        for (uint32_t count = 0; count < 300; ++count) {
            std::vector<uint32_t> times(count, 0);
            pool.run(count, [&](uint32_t i) { times[i] += i + 1; });
            for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(times[i], i + 1);
        }
    }
}

// In a process of its own, because that process may not have threads afterwards.
TEST(ThreadPoolDeathTest, threads_that_the_system_refuses_are_done_without) {
    const auto work = [] {
        if (geteuid() == 0 && setuid(65534) != 0) std::_Exit(2);  // root's threads have no limit
        const rlimit none{0, 0};
        if (setrlimit(RLIMIT_NPROC, &none) != 0) std::_Exit(3);
        std::atomic<int> started{0};
        std::atomic<uint32_t> sum{0};
        ThreadPool pool(100, [&] { started.fetch_add(1); });
        pool.run(1000, [&](uint32_t i) { sum.fetch_add(i); });
        std::_Exit(started.load() == 0 && sum.load() == 499'500 ? 0 : 4);
    };
    EXPECT_EXIT(work(), testing::ExitedWithCode(0), "");
}

TEST(thread_pool, helpers_start_with_what_they_are_told) {
    std::atomic<int> started{0};
    {
        ThreadPool pool(4, [&] { started.fetch_add(1); });
    }
    EXPECT_EQ(started.load(), 3);
}

}  // namespace
}  // namespace driftwood::compute
