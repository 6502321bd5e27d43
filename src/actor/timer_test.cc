// Timers: by the clock of the node, in the order of their deadlines, through freezes.
#include <gtest/gtest.h>

#include "actor/caller.h"
#include "actor/limits.h"

namespace driftwood::actor {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// A World whose clock stands still unless it is moved.
struct Still : World {
    Still() { clock = StepClock(kTestClockStart, 0); }
    void pass(int64_t ns) { clock.set_next_ns(clock.now_ns() + ns); }
};

TEST(TimerTest, timers_fire_when_due_in_order_of_their_deadlines) {
    Still world;
    Caller caller(world);
    const auto ops = caller.call(
        {{"sleep", {5 * kSecond}}, {"sleep", {3 * kSecond}}, {"sleep", {3 * kSecond}}, {"sleep", {0}}, {"now", {}}});
    EXPECT_EQ(caller.actor->state(), Actor::State::kWaiting);
    EXPECT_EQ(caller.actor->next_timer_in_ns(), 0);
    EXPECT_TRUE(caller.actor->wake());
    caller.run();
    EXPECT_EQ(caller.order, std::vector<int64_t>{ops[3]});
    EXPECT_EQ(caller.actor->next_timer_in_ns(), 3 * kSecond);
    world.pass(3 * kSecond - 1);
    EXPECT_FALSE(caller.actor->wake());
    EXPECT_EQ(caller.actor->next_timer_in_ns(), 1);
    world.pass(10 * kSecond);  // nobody looked for long
    EXPECT_TRUE(caller.actor->wake());
    EXPECT_FALSE(caller.actor->wake());
    caller.run();
    EXPECT_EQ(caller.order, (std::vector<int64_t>{ops[3], ops[1], ops[2], ops[0]}));
    for (int i = 0; i < 4; ++i) EXPECT_EQ(caller.status(ops[i]), 0);
    EXPECT_EQ(caller.actor->next_timer_in_ns(), std::nullopt);
    EXPECT_GE(caller.call("now"), ops[4] + 5 * kSecond);
}

TEST(TimerTest, the_guest_finds_the_deadline_passed_though_the_clock_went_back) {
    Still world;
    Caller caller(world);
    const int64_t asleep = caller.call("now");
    caller.call("sleep", {kSecond});
    world.pass(kSecond);
    ASSERT_TRUE(caller.actor->wake());
    world.pass(-kSecond);
    EXPECT_GE(caller.call("now"), asleep + kSecond);
}

TEST(TimerTest, a_cancelled_timer_completes_once_and_a_senseless_one_not_at_all) {
    Still world;
    Caller caller(world);
    const int64_t op = caller.call("sleep", {kSecond});
    EXPECT_EQ(caller.call("cancel", {op}), 0);
    EXPECT_EQ(caller.status(op), -DRIFTWOOD_ECANCELED);
    world.pass(2 * kSecond);
    EXPECT_FALSE(caller.actor->wake());
    EXPECT_EQ(caller.call("sleep", {-1}), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(caller.call("sleep", {INT64_MAX}), -DRIFTWOOD_EOVERFLOW);
    EXPECT_EQ(caller.call("cancel", {op}), -DRIFTWOOD_EBADF);
}

TEST(TimerTest, timers_count_as_operations) {
    Still world;
    Caller caller(world);
    const auto all = caller.call(std::vector<Call>(kMaxOperations + 1, {"sleep", {kSecond}}));
    EXPECT_GT(all[kMaxOperations - 1], 0);
    EXPECT_EQ(all[kMaxOperations], -DRIFTWOOD_EOVERFLOW);
}

// A deadline is a point in the actor's own time, wherever that goes on.
TEST(TimerTest, a_freeze_moves_no_deadline) {
    const file::TestDirectory directory;
    int64_t op = 0;
    {
        Still world;
        Caller caller(world);
        op = caller.call("sleep", {10 * kSecond});
        world.pass(4 * kSecond);
        caller.call("now");
        ASSERT_TRUE(caller.actor->freeze(directory.file("image"), not_durable()).ok());
    }
    const struct {
        int64_t clock, left;
    } machines[] = {{kTestClockStart + 7 * kSecond, 3 * kSecond},
                    {kTestClockStart + 4000 * kSecond, 0},
                    {1000, 6 * kSecond}};  // its clock is behind: time goes on from the last turn's
    for (const auto& machine : machines) {
        Still world;
        world.clock.set_next_ns(machine.clock);
        Caller elsewhere(world);
        auto thawed = thaw_file(world, elsewhere.module(), directory.file("image"));
        ASSERT_TRUE(thawed.ok()) << thawed.error().message;
        elsewhere.actor = std::move(thawed->actor);
        EXPECT_EQ(elsewhere.actor->next_timer_in_ns(), machine.left);
        world.pass(machine.left);
        EXPECT_TRUE(elsewhere.actor->wake());
        elsewhere.run();
        EXPECT_EQ(elsewhere.status(op), 0);
    }
}

}  // namespace
}  // namespace driftwood::actor
