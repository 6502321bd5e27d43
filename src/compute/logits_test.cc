#include "compute/logits.h"

#include <gtest/gtest.h>

#include <vector>

namespace driftwood::compute {
namespace {

struct Owner final : LogitsOwner {
    void take_back(std::span<float> values) override { back.push_back(values.data()); }
    std::vector<float*> back;
};

TEST(Logits, go_back_once_to_who_handed_them_out) {
    Owner owner;
    float first[4] = {};
    float second[4] = {};
    {
        Logits a(first, owner);
        Logits b(std::move(a));
        EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): what a move leaves is what is tested
        EXPECT_EQ(b.values().data(), first);
        EXPECT_TRUE(owner.back.empty());
        b = Logits(second, owner);
        EXPECT_EQ(owner.back, std::vector<float*>{first});
    }
    EXPECT_EQ(owner.back, (std::vector<float*>{first, second}));
}

TEST(Logits, may_be_ordinary_memory) {
    Owner owner;
    float handed[2] = {};
    Logits values(handed, owner);
    values = Logits(3);
    EXPECT_EQ(owner.back, std::vector<float*>{handed});
    EXPECT_EQ(values.values().size(), 3U);
    values = {};
    EXPECT_TRUE(values.empty());
    EXPECT_EQ(owner.back.size(), 1U);
}

}  // namespace
}  // namespace driftwood::compute
