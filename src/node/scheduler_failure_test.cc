// Many actors on one engine: what goes wrong with one stays with it.
#include "model/gguf.h"
#include "node/scheduler_test.h"

namespace driftwood::node {
namespace {

TEST(SchedulerTest, an_actor_whose_parked_image_is_spoilt_is_an_error_of_its_own) {
    World world("auto", 5);  // room for one of them
    const auto module = actor::chat_module(world);
    const file::TestDirectory directory;
    std::map<Scheduler::Key, std::vector<Error>> errors;
    Parking parking(
        directory.path(),
        [&](const std::string& image) -> Result<LiveActor> {
            LiveActor live;
            DW_ASSIGN(auto thawed, actor::thaw_file(world, *module, image));
            live.actor = std::move(thawed.actor);
            return live;
        },
        world.clock);
    Scheduler scheduler(
        *world.engine, world.blocks, {.step = {}},
        [&](Scheduler::Key key, const actor::Step& step) {
            if (step.error) errors[key].push_back(*step.error);
        },
        &parking);
    std::vector<Scheduler::Key> keys;
    const auto settle = [&] {
        for (int i = 0; i < 1000 && scheduler.round().worked; ++i) {
        }
    };
    for (int i = 0; i < 4; ++i) {
        LiveActor live;
        live.actor = Actor::create(world.context(), *module, actor::chat_options()).value();
        keys.push_back(scheduler.add(std::move(live)).value());
        ASSERT_TRUE(scheduler.send(keys.back(), words(20)).ok());
        settle();
    }
    ASSERT_TRUE(scheduler.parked(keys[0]));
    ASSERT_FALSE(scheduler.parked(keys[3]));
    std::filesystem::resize_file(directory.file(std::to_string(keys[0]) + ".actor"), 5000);
    ASSERT_TRUE(scheduler.send(keys[0], "Hello?").ok());
    ASSERT_TRUE(scheduler.send(keys[3], "Hello?").ok());
    settle();
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_EQ(errors.begin()->first, keys[0]);
    EXPECT_EQ(errors.begin()->second.size(), 1U);
    EXPECT_EQ(scheduler.at(keys[3]).sessions().at(0)->parts().size(), 4U);
}

TEST(SchedulerTest, a_request_for_more_blocks_than_there_are_fails_alone) {
    std::vector<Script> scripts;
    scripts.push_back({.messages = {"Hi", "Are you there?"}, .seed = 1, .arrives = 0});
    scripts.push_back({.messages = {words(60), "Hm"}, .seed = 2, .arrives = 0});  // more than 320 tokens
    scripts.push_back({.messages = {words(10), "So?"}, .seed = 3, .arrives = 2});
    World world("auto", 5);
    Stage stage(world, scripts, {.decode_tokens = 8, .prompt_tokens = 64, .prompt_alone = 128, .patience = 3});
    const std::vector<Life> got = stage.play();
    for (const size_t i : {0, 2}) {
        SCOPED_TRACE(i);
        expect_same(got[i], alone(scripts[i]));
    }
    EXPECT_TRUE(std::any_of(stage.reports.begin(), stage.reports.end(), [](const auto& r) { return r.forced; }));
    expect_same(got[1], alone(scripts[1], 5));  // it fails there, too
}

// Bytes of a model in which one token's keys are so large that its scores are no numbers: its embedding alone has
// something in the first column, and the first layer's norm blows that up.
std::vector<uint8_t> model_that_fails_at(char letter) {
    std::vector<uint8_t> bytes = actor::test_model_bytes();
    const auto file = model::Gguf::parse("test", bytes).value();
    const auto spoilt = model::load_gguf("test", bytes)
                            .value()
                            ->tokenizer()
                            .encode(std::string(1, letter), model::Tokenizer::Special::kText);
    const model::GgufTensor& embedding = *file.tensor("token_embd.weight");
    const uint64_t row_bytes = embedding.data.size() / embedding.shape[1];
    auto* rows = const_cast<uint8_t*>(embedding.data.data());
    for (uint32_t token = 0; token < embedding.shape[1]; ++token) {
        rows[token * row_bytes + sizeof(uint16_t)] = token == spoilt->at(0) ? 127 : 0;
    }
    const float huge = 1e30F;
    std::memcpy(const_cast<uint8_t*>(file.tensor("blk.0.attn_norm.weight")->data.data()), &huge, sizeof huge);
    return bytes;
}

TEST(SchedulerTest, an_item_that_is_not_finite_ends_one_answer_and_no_other) {
    const std::vector<uint8_t> bytes = model_that_fails_at('~');
    std::vector<Script> scripts;
    scripts.push_back({.messages = {words(20), "x"}, .seed = 1, .arrives = 0});
    scripts.push_back({.messages = {words(30) + "~" + words(3), "y"}, .seed = 2, .arrives = 0});
    scripts.push_back({.messages = {words(4), "z"}, .seed = 3, .arrives = 1});
    std::vector<Life> want;
    for (const Script& script : scripts) {
        World world("auto", 64, bytes);
        const auto module = script.module(world);
        Player player(world, *module, script);
        for (size_t i = 0; i <= script.messages.size(); ++i) {
            actor::run(*player.live.actor, player.heard);
            if (i < script.messages.size()) {
                EXPECT_TRUE(player.live.actor->send(script.messages[i]).ok());
            }
        }
        want.push_back({image_of(*player.live.actor), player.heard.replies, player.heard.logs});
    }
    EXPECT_NE(want[1].logs.find("finite"), std::string::npos) << want[1].logs;
    EXPECT_EQ(want[0].logs.find("finite"), std::string::npos) << want[0].logs;
    World world("auto", 64, bytes);
    Stage stage(world, scripts, {.decode_tokens = 8, .prompt_tokens = 256, .prompt_alone = 512, .patience = 3});
    const std::vector<Life> got = stage.play();
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(got[i], want[i]);
    }
}

TEST(SchedulerTest, an_actor_that_traps_or_has_no_end_of_turns_leaves_the_others_alone) {
    const std::vector<Script> scripts = crowd();
    World world;
    Stage stage(world, scripts, StepLimits{});
    const auto compile = [&](const std::string& start, const std::string& complete) {
        return wasm::Module::compile(*world.runtime, wasm::from_wat(R"((module
            (import "driftwood" "sleep" (func $sleep (param i64) (result i64)))
            (import "driftwood" "cancel" (func $cancel (param i64) (result i32)))
            (memory (export "memory") 1)
            (func $again (drop (call $cancel (call $sleep (i64.const 1000000000000)))))
            (func (export "driftwood_start") )" + start + R"()
            (func (export "driftwood_complete") (param i64 i64) )" + complete +
                                                                    "))"))
            .value();
    };
    const auto trapping = compile("unreachable", "");
    const auto endless = compile("(call $again)", "(call $again)");  // each turn leads to the next at once
    Scheduler::Key trapped = 0, restless = 0;
    stage.before_round = [&](int round) {
        if (round != 2) return;
        for (auto* module : {trapping.get(), endless.get()}) {
            LiveActor live;
            live.actor = Actor::create(world.context(), *module, {}).value();
            (module == trapping.get() ? trapped : restless) = stage.scheduler().add(std::move(live)).value();
        }
    };
    const std::vector<Life> got = stage.play();
    for (size_t i = 0; i < scripts.size(); ++i) {
        SCOPED_TRACE(i);
        expect_same(got[i], alone(scripts[i]));
    }
    EXPECT_EQ(stage.scheduler().at(trapped).state(), Actor::State::kFailed);
    EXPECT_EQ(stage.scheduler().at(restless).state(), Actor::State::kReady);
    const auto rounds = stage.reports.size() - 2;
    EXPECT_LE(stage.scheduler().at(restless).turns(), rounds * SchedulerOptions{}.host_steps + 1);
}

TEST(SchedulerTest, actors_are_bounded) {
    World world;
    const auto module = actor::chat_module(world);
    Scheduler scheduler(*world.engine, world.blocks, {.step = {}, .max_actors = 2},
                        [](Scheduler::Key, const actor::Step&) {});
    for (const bool fits : {true, true, false}) {
        LiveActor live;
        live.actor = Actor::create(world.context(), *module, actor::chat_options()).value();
        const auto added = scheduler.add(std::move(live));
        EXPECT_EQ(added.ok(), fits);
        if (!fits) {
            EXPECT_EQ(added.error().code, ErrorCode::kLimit);
        }
    }
    EXPECT_EQ(scheduler.actors(), 2U);
}

// ---- sessions by themselves

TEST(BatcherTest, a_prompt_of_4000_tokens_beside_decoders_stalls_none_of_them) {
    const std::vector<uint8_t> bytes = model::synth_model({.context = 8192}, 1).value();
    World world("auto", 256, bytes);
    constexpr size_t kDecoders = 6;
    std::vector<std::unique_ptr<session::Session>> sessions;
    std::vector<std::unique_ptr<SessionMember>> members;
    std::vector<BatchMember*> all;
    const auto add = [&](uint32_t tokens, uint32_t answer) {
        sessions.push_back(std::make_unique<session::Session>(*world.model, *world.engine, world.blocks));
        const std::vector<uint32_t> prompt(tokens, 65);
        EXPECT_TRUE(sessions.back()->append_tokens(prompt).ok());
        EXPECT_TRUE(sessions.back()->begin_generate({.sampler = {.temperature = 1.0F}, .max_tokens = answer}).ok());
        members.push_back(std::make_unique<SessionMember>(*sessions.back()));
        all.push_back(members.back().get());
    };
    for (size_t i = 0; i < kDecoders; ++i) add(5, 1000);
    const StepLimits limits{.decode_tokens = 16, .prompt_tokens = 128, .prompt_alone = 512, .patience = 8};
    Batcher batcher(*world.engine, world.blocks, limits);
    const auto step = [&] {
        const Batcher::Report report = batcher.step(all);
        for (const auto& session : sessions) {
            if (session->can_sample()) {
                EXPECT_TRUE(session->sample().ok());
            }
        }
        return report;
    };
    step();
    add(4000, 1);
    std::vector<size_t> before(kDecoders);
    uint32_t steps = 0;
    while (sessions[kDecoders]->computed() < 4000 && steps < 1000) {
        for (size_t i = 0; i < kDecoders; ++i) before[i] = sessions[i]->tokens().size();
        const Batcher::Report report = step();
        ++steps;
        EXPECT_LE(report.decode_tokens + report.prompt_tokens, kDecoders + limits.prompt_tokens);
        for (size_t i = 0; i < kDecoders; ++i) {
            if (sessions[i]->finish() == session::Finish::kRunning) {
                EXPECT_EQ(sessions[i]->tokens().size(), before[i] + 1);
            }
        }
    }
    EXPECT_EQ(steps, (4000 + 127) / 128 + 0U);
}

}  // namespace
}  // namespace driftwood::node
