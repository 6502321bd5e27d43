// Many actors on one engine: what each gets is what it gets alone.
#include "node/scheduler_test.h"

namespace driftwood::node {
namespace {

TEST(SchedulerTest, any_composition_gives_everybody_the_image_of_being_alone) {
    const std::vector<Script> scripts = crowd();
    std::vector<Life> want;
    for (const Script& script : scripts) want.push_back(alone(script));
    for (const StepLimits& limits :
         {StepLimits{}, StepLimits{.decode_tokens = 2, .prompt_tokens = 64, .prompt_alone = 64},
          StepLimits{.decode_tokens = 1, .prompt_tokens = 1, .prompt_alone = 130}}) {
        SCOPED_TRACE(limits.decode_tokens);
        World world;
        Stage stage(world, scripts, limits);
        const std::vector<Life> got = stage.play();
        for (size_t i = 0; i < scripts.size(); ++i) {
            SCOPED_TRACE(i);
            expect_same(got[i], want[i]);
        }
        const auto mixed = std::count_if(stage.reports.begin(), stage.reports.end(), [](const Batcher::Report& report) {
            return report.decode_tokens > 0 && report.prompt_tokens > 0;
        });
        EXPECT_GT(mixed, 3);
        EXPECT_EQ(world.engine->pool().blocks_in_use(), 0U);
    }
}

TEST(SchedulerTest, a_freeze_among_others_changes_nothing_for_anybody) {
    const std::vector<Script> scripts = crowd();
    std::vector<Life> want;
    for (const Script& script : scripts) want.push_back(alone(script));
    World world;
    Stage stage(world, scripts, {.decode_tokens = 3, .prompt_tokens = 64, .prompt_alone = 64});
    int moved = 0;
    stage.before_round = [&](int round) {
        for (size_t i = 0; i < scripts.size(); ++i) {
            if (stage.player(i) == nullptr || (round + static_cast<int>(i)) % 4 != 0) continue;
            const auto kind = stage.scheduler().at(stage.player(i)->key).next();
            moved += kind == actor::Step::Kind::kForward || kind == actor::Step::Kind::kSample ? 1 : 0;
            stage.freeze_and_thaw(i);
        }
    };
    const std::vector<Life> got = stage.play();
    EXPECT_GT(moved, 10);
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(forget(got[i]), forget(want[i]));
    }
}

TEST(SchedulerTest, a_cancel_and_an_early_end_in_the_midst_of_steps_leave_the_others_alone) {
    const std::vector<Script> scripts = crowd();
    World world;
    Stage stage(world, scripts, {.decode_tokens = 4, .prompt_tokens = 64, .prompt_alone = 64, .patience = 2});
    const Script extra{.messages = {}, .module = caller_module, .options = {}, .seed = 99};
    const auto module = caller_module(world);
    std::vector<std::unique_ptr<Player>> extras;
    const auto computed = [&](size_t i) { return stage.scheduler().at(extras[i]->key).sessions().at(0)->computed(); };
    uint32_t cancelled_at = 0;
    stage.before_round = [&](int round) {
        if (round == 1) {
            for (int i = 0; i < 2; ++i) {
                extras.push_back(std::make_unique<Player>(world, *module, extra));
                extras[i]->key = stage.scheduler().add(std::move(extras[i]->live)).value();
                EXPECT_TRUE(stage.scheduler()
                                .send(extras[i]->key, actor::encode_calls({{"session_open", {}}, decode_of(400)}))
                                .ok());
            }
        } else if (round == 12) {
            cancelled_at = computed(0);
            EXPECT_TRUE(stage.scheduler().send(extras[0]->key, actor::encode_calls({{"cancel", {2}}})).ok());
            EXPECT_GT(computed(1), 0U);
            EXPECT_LT(computed(1), 400U);
            stage.scheduler().remove(extras[1]->key);
        } else if (round == 20) {
            EXPECT_GT(cancelled_at, 0U);
            EXPECT_LT(cancelled_at, 400U);
            EXPECT_EQ(computed(0), cancelled_at);
            EXPECT_EQ(stage.scheduler().at(extras[0]->key).state(), Actor::State::kWaiting);
            stage.scheduler().remove(extras[0]->key);
        }
    };
    const std::vector<Life> got = stage.play();
    ASSERT_GT(stage.reports.size(), 20U);
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(got[i], alone(scripts[i]));
    }
    EXPECT_EQ(world.engine->pool().blocks_in_use(), 0U);
}

TEST(SchedulerTest, without_blocks_for_all_some_wait_and_everybody_gets_the_bits_of_being_alone) {
    std::vector<Script> scripts;
    for (uint64_t i = 0; i < 5; ++i) {
        scripts.push_back({.messages = {words(20 + static_cast<int>(i))}, .seed = i, .arrives = static_cast<int>(i)});
    }
    World world("auto", 6);  // one of them has 3 to 4 blocks at its end
    Stage stage(world, scripts, {.decode_tokens = 8, .prompt_tokens = 64, .prompt_alone = 128, .patience = 3});
    const std::vector<Life> got = stage.play();
    uint32_t waited = 0;
    for (const Batcher::Report& report : stage.reports) {
        waited += report.no_blocks;
        EXPECT_FALSE(report.forced);
    }
    EXPECT_GT(waited, 0U);
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(got[i], alone(scripts[i]));
    }
}

TEST(SchedulerTest, idle_actors_make_room_and_are_thawed_by_the_next_message) {
    std::vector<Script> scripts;
    for (uint64_t i = 0; i < 6; ++i) {
        scripts.push_back({.messages = {words(14), "And " + words(static_cast<int>(i)), "So?"},
                           .seed = i,
                           .arrives = static_cast<int>(i),
                           .pause = 25});
    }
    World world("auto", 9);  // all of them have 18 at their ends
    const file::TestDirectory directory;
    {
        Stage stage(world, scripts, {.decode_tokens = 8, .prompt_tokens = 64, .prompt_alone = 128, .patience = 3},
                    directory.path());
        const std::vector<Life> got = stage.play();
        EXPECT_GT(stage.parked, 3U);
        EXPECT_GT(stage.fetched, 3U);
        for (size_t i = 0; i < scripts.size(); ++i) {
            SCOPED_TRACE(i);
            expect_same(forget(got[i]), forget(alone(scripts[i])));
        }
    }
    EXPECT_EQ(world.engine->pool().blocks_in_use(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace driftwood::node
