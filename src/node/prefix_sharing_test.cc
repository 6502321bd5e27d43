// Many actors whose conversations begin in the same way: computed once, and everybody gets what he gets alone.
#include "node/scheduler_test.h"

namespace driftwood::node {
namespace {

constexpr StepLimits kSmall{.decode_tokens = 8, .prompt_tokens = 64, .prompt_alone = 128, .patience = 3};

Script chat(std::vector<std::string> messages, uint64_t seed, int arrives, int pause = 0) {
    Script script{.messages = std::move(messages), .seed = seed, .arrives = arrives, .pause = pause};
    script.options.wasi.environment.push_back("SYSTEM=" + words(30));
    return script;
}

std::vector<Script> alike() {
    std::vector<Script> scripts;
    scripts.push_back(chat({"Hi", "What is my name?"}, 1, 0));
    scripts.push_back(chat({"Hi"}, 2, 0));
    scripts.push_back({.messages = two_sessions(), .module = caller_module, .options = {}, .seed = 13, .arrives = 1});
    scripts.push_back(chat({"Tell me", words(6)}, 3, 6));
    scripts.push_back(chat({"Tell me", words(6), "So?"}, 4, 9));
    scripts.push_back({.messages = two_sessions(), .module = caller_module, .options = {}, .seed = 16, .arrives = 12});
    scripts.push_back(chat({words(20)}, 5, 30));
    return scripts;
}

uint64_t reused(const Stage& stage) {
    uint64_t tokens = 0;
    for (const Batcher::Report& report : stage.reports) tokens += report.reused_tokens;
    return tokens;
}

uint64_t computed(const Stage& stage) {
    uint64_t tokens = 0;
    for (const Batcher::Report& report : stage.reports) tokens += report.prompt_tokens;
    return tokens;
}

TEST(PrefixSharingTest, everybody_gets_the_image_of_being_alone_and_less_is_computed) {
    const std::vector<Script> scripts = alike();
    std::vector<Life> want;
    for (const Script& script : scripts) want.push_back(alone(script));
    for (const StepLimits& limits : {StepLimits{}, kSmall, StepLimits{.decode_tokens = 1, .prompt_tokens = 1}}) {
        SCOPED_TRACE(limits.decode_tokens);
        uint64_t computed_apart = 0;
        for (const std::optional<uint32_t> idle : {std::optional<uint32_t>(), std::optional<uint32_t>(32)}) {
            World world("auto", 256, actor::test_model_bytes(), idle);
            Stage stage(world, scripts, limits);
            const std::vector<Life> got = stage.play();
            for (size_t i = 0; i < scripts.size(); ++i) {
                SCOPED_TRACE(i);
                expect_same(got[i], want[i]);
            }
            if (!idle) computed_apart = computed(stage);
            EXPECT_EQ(computed(stage) + reused(stage), computed_apart);
            EXPECT_EQ(reused(stage) >= 300, idle.has_value()) << reused(stage);
            EXPECT_EQ(world.engine->pool().blocks_in_use(), world.blocks.idle_prefixes());
        }
    }
}

TEST(PrefixSharingTest, an_actor_alone_reuses_what_it_computed_before) {
    World world("auto", 256, actor::test_model_bytes(), 32);
    const Script script = chat({"Hi"}, 1, 0);
    const Life want = alone(script);
    for (const uint64_t blocks : {0, 2}) {
        const auto module = script.module(world);
        const uint64_t before = world.blocks.prefix_counts().blocks_reused;
        Player player(world, *module, script);
        actor::run(*player.live.actor, player.heard);
        ASSERT_TRUE(player.live.actor->send("Hi").ok());
        actor::run(*player.live.actor, player.heard);
        expect_same({image_of(*player.live.actor), player.heard.replies, player.heard.logs}, want);
        EXPECT_GE(world.blocks.prefix_counts().blocks_reused - before, blocks);
    }
}

// The same program but for a function that nobody calls.
std::unique_ptr<wasm::Module> other_module(World& world) {
    std::string wat = wasm::caller_guest_wat();
    wat.insert(wat.find("(func $listen"), "(func $unused) ");
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wat)).value();
}

TEST(PrefixSharingTest, actors_of_another_module_compute_their_own) {
    for (const bool same : {true, false}) {
        SCOPED_TRACE(same);
        std::vector<Script> scripts(2, {.messages = {actor::encode_calls({{"session_open", {}}, decode_of(300)})},
                                        .module = caller_module,
                                        .options = {}});
        scripts[1].arrives = 20;
        if (!same) scripts[1].module = other_module;
        World world("auto", 256, actor::test_model_bytes(), 32);
        Stage stage(world, scripts, kSmall);
        const std::vector<Life> got = stage.play();
        EXPECT_EQ(reused(stage), same ? 256U : 0U);
        EXPECT_EQ(computed(stage), same ? 344U : 600U);
        for (size_t i = 0; i < 2; ++i) expect_same(got[i], alone(scripts[i]));
    }
}

TEST(PrefixSharingTest, with_few_blocks_idle_beginnings_make_room_and_nobody_fails) {
    std::vector<Script> scripts;
    for (uint64_t i = 0; i < 6; ++i) {
        const int n = static_cast<int>(i);
        scripts.push_back(chat({words(n)}, i, 20 * n));
        // Others, which need most of the pool.
        scripts.push_back({.messages = {words(40 + n)}, .seed = i, .arrives = 20 * n + 10});
    }
    for (const std::optional<uint32_t> idle : {std::optional<uint32_t>(), std::optional<uint32_t>(7)}) {
        SCOPED_TRACE(idle.has_value());
        World world("auto", 7, actor::test_model_bytes(), idle);
        Stage stage(world, scripts, kSmall);
        const std::vector<Life> got = stage.play();
        EXPECT_EQ(reused(stage) > 0, idle.has_value());
        EXPECT_EQ(world.blocks.prefix_counts().blocks_dropped > 0, idle.has_value());
        for (const Batcher::Report& report : stage.reports) EXPECT_FALSE(report.forced);
        for (size_t i = 0; i < scripts.size(); ++i) {
            SCOPED_TRACE(i);
            expect_same(got[i], alone(scripts[i]));
        }
    }
}

TEST(PrefixSharingTest, actors_that_share_are_parked_and_go_on_from_their_images) {
    std::vector<Script> scripts;
    for (uint64_t i = 0; i < 6; ++i) {
        scripts.push_back(chat({words(4), "And " + words(static_cast<int>(i)), "So?"}, i, static_cast<int>(i), 25));
    }
    World world("auto", 12, actor::test_model_bytes(), 4);
    const file::TestDirectory directory;
    Stage stage(world, scripts, kSmall, directory.path());
    const std::vector<Life> got = stage.play();
    EXPECT_GT(stage.parked, 1U);
    EXPECT_GT(stage.fetched, 1U);
    EXPECT_GT(reused(stage), 0U);
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(forget(got[i]), forget(alone(scripts[i])));
    }
}

}  // namespace
}  // namespace driftwood::node
