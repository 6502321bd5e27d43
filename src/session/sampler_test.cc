#include "session/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"

namespace driftwood::session {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(size_t count, uint64_t seed) {
    std::vector<float> out(count);
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(philox(seed, i)[0]) / 0x1p32F * 8.0F - 4.0F;
    return out;
}

// The definition in doubles: softmax of logits over temperature, then the k best, then the nucleus of those.
std::vector<double> probabilities(const std::vector<float>& logits, const SamplerParams& params) {
    std::vector<size_t> order(logits.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    if (params.top_k > 0) order.resize(std::min<size_t>(order.size(), params.top_k));
    std::vector<double> p(logits.size());
    double total = 0;
    for (const size_t id : order) {
        p[id] = std::exp((double{logits[id]} - logits[order[0]]) / params.temperature);
        total += p[id];
    }
    double kept = total;
    if (params.top_p > 0 && params.top_p < 1) {
        kept = 0;
        bool full = false;
        for (const size_t id : order) {
            if (full) p[id] = 0;
            kept += p[id];
            full = full || kept >= params.top_p * total;
        }
    }
    for (double& x : p) x /= kept;
    return p;
}

TEST(SamplerTest, draws_as_often_as_the_definition_says) {
    const std::vector<float> logits = random_logits(40, 1);
    for (const SamplerParams& params :
         {SamplerParams{.temperature = 1.0F, .seed = 1}, SamplerParams{.temperature = 0.5F, .seed = 2},
          SamplerParams{.temperature = 3.0F, .top_k = 7, .seed = 3}, SamplerParams{.temperature = 1.0F, .top_p = 0.7F},
          SamplerParams{.temperature = 2.0F, .top_p = 0.9F, .top_k = 12, .seed = 5},
          SamplerParams{.temperature = 1.0F, .top_p = 1.0F, .top_k = 1000, .seed = 6}}) {
        const std::vector<double> want = probabilities(logits, params);
        constexpr int kDraws = 40000;
        std::vector<double> got(logits.size());
        for (int i = 0; i < kDraws; ++i) got[*sample(logits, params, static_cast<uint64_t>(i))] += 1.0 / kDraws;
        for (size_t id = 0; id < want.size(); ++id) {
            EXPECT_NEAR(got[id], want[id], 5 * std::sqrt(want[id] / kDraws))
                << id;  // five standard deviations; 0 exactly where it is 0
        }
    }
}

TEST(SamplerTest, greedy_takes_the_best_and_ties_go_to_the_lower_id) {
    const std::vector<float> logits = {1.0F, 3.0F, -2.0F, 3.0F};
    EXPECT_EQ(*sample(logits, {}, 0), 1u);
    EXPECT_EQ(*sample(logits, {.temperature = 1.0F, .top_k = 1}, 9), 1u);
    for (uint64_t i = 0; i < 200; ++i) {
        EXPECT_EQ(*sample(logits, {.temperature = 1.0F, .top_p = 0.01F, .seed = 3}, i), 1u);
        EXPECT_NE(*sample({{5.0F, 5.0F, 5.0F}}, {.temperature = 1.0F, .top_k = 2}, i), 2u);
    }
}

TEST(SamplerTest, a_draw_follows_from_seed_and_counter_alone) {
    const std::vector<float> logits = random_logits(1000, 7);
    const SamplerParams params{.temperature = 2.0F, .seed = 11};
    const SamplerParams other{.temperature = 2.0F, .seed = 12};
    int same = 0, like_other = 0, like_next = 0;
    for (uint64_t i = 0; i < 100; ++i) {
        same += *sample(logits, params, i) == *sample(logits, params, i);
        like_other += *sample(logits, params, i) == *sample(logits, other, i);
        like_next += *sample(logits, params, i) == *sample(logits, params, i + 1);
    }
    EXPECT_EQ(same, 100);
    EXPECT_LT(like_other, 20);
    EXPECT_LT(like_next, 20);
}

// The rule is part of the numerics contract: a change of one of these is a new version of it.
TEST(SamplerTest, keeps_picking_what_it_picked) {
    const std::vector<float> logits = random_logits(4096, 5);
    std::vector<uint32_t> got;
    for (uint64_t i = 0; i < 6; ++i)
        got.push_back(*sample(logits, {.temperature = 0.8F, .top_p = 0.95F, .top_k = 500, .seed = 42}, i));
    EXPECT_EQ(got, (std::vector<uint32_t>{982, 1663, 2842, 2110, 101, 3780}));
}

TEST(SamplerTest, a_logit_of_minus_infinity_is_never_picked_and_no_number_is_an_error) {
    for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(*sample({{-kInf, 2.0F, -kInf}}, {.temperature = 9.0F}, i), 1u);
    for (const SamplerParams& params : {SamplerParams{}, SamplerParams{.temperature = 1.0F}}) {
        EXPECT_EQ(sample({{0.0F, kNan}}, params, 0).error().code, ErrorCode::kNotFinite);
        EXPECT_EQ(sample({{kNan, 0.0F}}, params, 0).error().code, ErrorCode::kNotFinite);
        EXPECT_EQ(sample({{kInf, 0.0F}}, params, 0).error().code, ErrorCode::kNotFinite);
        EXPECT_EQ(sample({{-kInf, -kInf}}, params, 0).error().code, ErrorCode::kNotFinite);
    }
}

TEST(SamplerTest, parameters_have_limits) {
    EXPECT_TRUE(validate({}).ok());
    EXPECT_TRUE(validate({.temperature = 1.0F, .top_p = 1.0F, .top_k = 5}).ok());
    for (const float t : {-1.0F, 1e-5F, 1001.0F, kNan, kInf}) EXPECT_FALSE(validate({.temperature = t}).ok());
    for (const float p : {-0.1F, 1.1F, kNan, kInf}) EXPECT_FALSE(validate({.top_p = p}).ok());
}

}  // namespace
}  // namespace driftwood::session
