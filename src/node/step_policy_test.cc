#include "node/step_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace driftwood::node {
namespace {

constexpr StepLimits kLimits{.decode_tokens = 8, .prompt_tokens = 128, .prompt_alone = 512, .patience = 5};

Candidate decode() { return {.tokens = 1, .pending = 1, .decodes = true}; }
Candidate prompt(uint32_t pending, uint64_t waited = 0) {
    return {.tokens = std::min(pending, 64U), .pending = pending, .decodes = false, .waited = waited};
}

std::map<uint32_t, uint32_t> chosen(const std::vector<Candidate>& candidates) {
    std::map<uint32_t, uint32_t> tokens;
    for (const Grant& grant : choose_step(kLimits, candidates)) {
        EXPECT_TRUE(tokens.emplace(grant.candidate, grant.tokens).second) << "granted twice";
        EXPECT_GE(grant.tokens, candidates[grant.candidate].tokens);
        EXPECT_LE(grant.tokens, std::max(candidates[grant.candidate].pending, candidates[grant.candidate].tokens));
    }
    return tokens;
}

using Tokens = std::map<uint32_t, uint32_t>;

TEST(StepPolicyTest, decodes_come_with_a_share_for_prompts) {
    EXPECT_EQ(chosen({}), Tokens{});
    EXPECT_EQ(chosen({decode()}), (Tokens{{0, 1}}));
    EXPECT_EQ(chosen({prompt(4000), decode(), decode()}), (Tokens{{0, 128}, {1, 1}, {2, 1}}));
    EXPECT_EQ(chosen({prompt(4000)}), (Tokens{{0, 512}}));
    EXPECT_EQ(chosen({prompt(40), prompt(30), decode()}), (Tokens{{0, 40}, {1, 30}, {2, 1}}));
}

TEST(StepPolicyTest, short_prompts_pass_by_long_ones_until_patience_ends) {
    EXPECT_EQ(chosen({prompt(4000), prompt(100), decode()}), (Tokens{{1, 100}, {2, 1}}));
    EXPECT_EQ(chosen({prompt(4000, 4), prompt(100), decode()}), (Tokens{{1, 100}, {2, 1}}));
    EXPECT_EQ(chosen({prompt(4000, 5), prompt(100), decode()}), (Tokens{{0, 128}, {2, 1}}));
    EXPECT_EQ(chosen({prompt(4000, 5), prompt(3000, 7), decode()}), (Tokens{{0, 128}, {2, 1}}));  // the oldest
}

TEST(StepPolicyTest, who_needs_more_than_the_limit_gets_it_when_first) {
    const Candidate many{.tokens = 640, .pending = 640, .decodes = false, .waited = 9};
    EXPECT_EQ(chosen({many, decode()}), (Tokens{{0, 640}, {1, 1}}));
    EXPECT_EQ(chosen({prompt(30), {.tokens = 640, .pending = 640}, decode()}), (Tokens{{0, 30}, {2, 1}}));
    const Candidate wide{.tokens = 20, .pending = 20, .decodes = true};
    EXPECT_EQ(chosen({wide, decode()}), (Tokens{{0, 20}}));
}

// Runs the policy by itself: members that want a token in every step, and prompts.
struct Play {
    std::vector<Candidate> members;
    std::vector<std::vector<uint32_t>> served;  // steps, by member
    uint64_t serves = 0;

    explicit Play(std::vector<Candidate> all) : members(std::move(all)), served(members.size()) {}
    void step(uint32_t now) {
        std::vector<Candidate> wanting;
        std::vector<uint32_t> who;
        for (uint32_t i = 0; i < members.size(); ++i) {
            if (members[i].pending == 0) continue;
            wanting.push_back(members[i]);
            who.push_back(i);
            ++members[i].waited;
        }
        for (const Grant& grant : choose_step(kLimits, wanting)) {
            Candidate& member = members[who[grant.candidate]];
            served[who[grant.candidate]].push_back(now);
            member.waited = 0;
            member.served = ++serves;
            if (member.decodes) continue;
            member.pending -= grant.tokens;
            member.tokens = std::min(member.pending, 64U);
        }
    }
};

TEST(StepPolicyTest, more_decodes_than_fit_take_turns_evenly) {
    Play run(std::vector<Candidate>(20, decode()));
    constexpr uint32_t kSteps = 100;
    for (uint32_t i = 0; i < kSteps; ++i) run.step(i);
    for (const auto& steps : run.served) {
        EXPECT_EQ(steps.size(), kSteps * 8 / 20);
        for (size_t i = 1; i < steps.size(); ++i) EXPECT_LE(steps[i] - steps[i - 1], 3U);
    }
}

TEST(StepPolicyTest, a_long_prompt_beside_short_ones_and_decodes_ends_in_time_and_stalls_nobody) {
    std::vector<Candidate> all(7, decode());
    all.push_back(prompt(4000));
    Play run(std::move(all));
    uint32_t steps = 0;
    uint32_t short_ones = 0;
    for (; run.members[7].pending > 0 && steps < 1000; ++steps) {
        run.members.push_back(prompt(128));  // in every step another one, that takes the whole share
        run.served.emplace_back();
        run.step(steps);
    }
    for (const Candidate& member : run.members) short_ones += member.pending == 0 ? 1 : 0;
    for (uint32_t i = 0; i < 7; ++i) EXPECT_EQ(run.served[i].size(), steps);  // a token in every step
    // A share at least every patience + 1 steps, however many short ones come.
    EXPECT_LE(steps, (4000 + 127) / 128 * (kLimits.patience + 1));
    EXPECT_GT(short_ones, steps / 4);
}

}  // namespace
}  // namespace driftwood::node
