// Many actors on one engine: what each gets is what it gets alone, and what goes wrong with one stays with it.
#include "node/scheduler.h"

#include <gtest/gtest.h>

#include "actor/caller.h"
#include "actor/test_world.h"
#include "model/gguf.h"

namespace driftwood::node {
namespace {

using actor::Actor;
using actor::Call;
using actor::Heard;
using actor::World;

std::string words(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "word" + std::to_string(i) + " ";
    return text;
}

// What one actor lives through, wherever it does.
struct Script {
    std::vector<std::string> messages;  // each is sent when the one before has been answered
    std::unique_ptr<wasm::Module> (*module)(World&) = actor::chat_module;
    actor::ActorOptions options = actor::chat_options();
    uint64_t seed = 1;
    int arrives = 0;  // round
};

// An actor of a script: on the engine of `world`, with a clock and entropy of its own.
struct Player {
    Player(World& world, const wasm::Module& module, const Script& of)
        : script(&of), entropy(of.seed), live(make(world, module)) {}
    Player(const Player&) = delete;

    actor::Context context(World& world) {
        actor::Context context = world.context();
        return {.model = context.model,
                .engine = context.engine,
                .blocks = context.blocks,
                .device = context.device,
                .clock = clock,
                .entropy = entropy};
    }
    LiveActor make(World& world, const wasm::Module& module) {
        LiveActor out;
        out.actor = Actor::create(context(world), module, script->options).value();
        return out;
    }

    const Script* script;
    StepClock clock{actor::kTestClockStart, actor::kTestClockStep};
    SeededEntropy entropy;
    LiveActor live;
    size_t sent = 0;
    Heard heard;
    Scheduler::Key key = 0;
};

using Contents = std::map<std::string, std::string>;

Contents image_of(Actor& actor) {
    const file::TestDirectory directory;
    const auto frozen = actor.freeze(directory.file("image"), actor::not_durable());
    EXPECT_TRUE(frozen.ok()) << frozen.error().message;
    return frozen.ok() ? actor::contents(directory.file("image")) : Contents{};
}

struct Life {
    Contents image;
    std::string replies;
    std::string logs;
};

Life alone(const Script& script, uint32_t kv_blocks = 256) {
    World world("auto", kv_blocks);
    const auto module = script.module(world);
    Player player(world, *module, script);
    actor::run(*player.live.actor, player.heard);
    for (const std::string& message : script.messages) {
        EXPECT_TRUE(player.live.actor->send(message).ok());
        actor::run(*player.live.actor, player.heard);
    }
    return {image_of(*player.live.actor), player.heard.replies, player.heard.logs};
}

// Scripts played at once on one engine. An actor leaves when its script is over.
class Stage {
  public:
    Stage(World& world, const std::vector<Script>& scripts, const StepLimits& limits)
        : world_(world),
          scripts_(scripts),
          scheduler_(*world.engine, {.step = limits, .threads = 2},
                     [this](Scheduler::Key key, const actor::Step& step) { take(key, step); }) {
        for (const Script& script : scripts) modules_.push_back(script.module(world));
        lives_.resize(scripts.size());
        players_.resize(scripts.size());
    }

    // Called before every round with its number.
    std::function<void(int)> before_round;

    std::vector<Life> play() {
        size_t over = 0;
        for (int round = 0; over < scripts_.size() && round < 5000; ++round) {
            if (before_round) before_round(round);
            for (size_t i = 0; i < scripts_.size(); ++i) {
                if (scripts_[i].arrives == round) arrive(i);
                if (players_[i] && go_on(i)) ++over;
            }
            reports.push_back(scheduler_.round().forward);
        }
        EXPECT_EQ(over, scripts_.size());
        return std::move(lives_);
    }

    Player* player(size_t i) { return players_[i].get(); }
    Scheduler& scheduler() { return scheduler_; }
    // The actor goes through an image, while the others are as they are.
    void freeze_and_thaw(size_t i) {
        const file::TestDirectory directory;
        LiveActor live = scheduler_.remove(players_[i]->key);
        ASSERT_TRUE(live.actor->freeze(directory.file("image"), actor::not_durable()).ok());
        live.actor.reset();
        auto image = file::SectionReader::open(directory.file("image"), file::SectionReader::Hashes::kRequired);
        auto thawed = Actor::thaw(players_[i]->context(world_), *modules_[i], scripts_[i].options,
                                  std::make_shared<const file::SectionReader>(std::move(image).value()));
        ASSERT_TRUE(thawed.ok()) << thawed.error().message;
        live.actor = std::move(thawed->actor);
        players_[i]->key = scheduler_.add(std::move(live)).value();
    }

    std::vector<Batcher::Report> reports;
    Heard others;  // actors that are in no script

  private:
    void arrive(size_t i) {
        players_[i] = std::make_unique<Player>(world_, *modules_[i], scripts_[i]);
        players_[i]->key = scheduler_.add(std::move(players_[i]->live)).value();
    }
    // The next message when the last one has been answered; true when that was the last.
    bool go_on(size_t i) {
        Player& player = *players_[i];
        Actor& actor = scheduler_.at(player.key);
        if (actor.state() != Actor::State::kWaiting || !actor.listens()) return false;
        if (player.sent < scripts_[i].messages.size()) {
            EXPECT_TRUE(scheduler_.send(player.key, scripts_[i].messages[player.sent++]).ok());
            return false;
        }
        LiveActor live = scheduler_.remove(player.key);
        lives_[i] = {image_of(*live.actor), player.heard.replies, player.heard.logs};
        live.actor.reset();
        players_[i].reset();
        return true;
    }
    void take(Scheduler::Key key, const actor::Step& step) {
        for (const auto& player : players_) {
            if (player && player->key == key) return player->heard.take(step);
        }
        others.take(step);
    }

    World& world_;
    const std::vector<Script>& scripts_;
    std::vector<std::unique_ptr<wasm::Module>> modules_;
    Scheduler scheduler_;
    std::vector<std::unique_ptr<Player>> players_;
    std::vector<Life> lives_;
};

void expect_same(const Life& got, const Life& want) {
    EXPECT_EQ(got.replies, want.replies);
    EXPECT_EQ(got.logs, want.logs);
    EXPECT_EQ(actor::differences(got.image, want.image), std::vector<std::string>{});
}

std::unique_ptr<wasm::Module> caller_module(World& world) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wasm::caller_guest_wat())).value();
}

Call decode_of(int64_t tokens) { return {"decode", {1, wasm::kCallerFree, tokens, wasm::kCallerFree, 512}}; }

// Two sessions of one actor, whose answers and decodes end in an order that the sizes of chunks decide.
std::vector<std::string> two_sessions() {
    constexpr int64_t kZeros = wasm::kCallerFree, kLogits = kZeros + 65536;
    return {actor::encode_calls({{"session_open", {}},
                                 {"session_open", {}},
                                 {"decode", {1, kZeros, 150, kLogits, 512}},
                                 {"decode", {2, kZeros, 70, kLogits + 2048, 512}}}),
            actor::encode_calls({{"session_fork", {1}},
                                 {"decode", {3, kZeros, 130, kLogits, 512}},
                                 {"prefill", {2}},
                                 {"decode", {1, kZeros, 3, kLogits + 2048, 512}}})};
}

std::vector<Script> crowd() {
    std::vector<Script> scripts;
    scripts.push_back({.messages = {words(40), "What is my name?"}, .seed = 11, .arrives = 0});
    scripts.push_back({.messages = {"Hi"}, .seed = 12, .arrives = 0});
    scripts.push_back({.messages = two_sessions(), .module = caller_module, .options = {}, .seed = 13, .arrives = 1});
    scripts.push_back({.messages = {"Tell me", "a story", words(12)}, .seed = 14, .arrives = 3});
    scripts.push_back({.messages = {words(55)}, .seed = 15, .arrives = 4});
    scripts.push_back({.messages = two_sessions(), .module = caller_module, .options = {}, .seed = 16, .arrives = 9});
    scripts.push_back({.messages = {words(20), words(3)}, .seed = 17, .arrives = 14});
    return scripts;
}

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
    // An image names its parent, and nothing else tells that there was one.
    const auto forget = [](Life life) {
        life.image.erase("metadata.parent_image");
        return life;
    };
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
    Scheduler scheduler(*world.engine, {.step = {}, .max_actors = 2}, [](Scheduler::Key, const actor::Step&) {});
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
    Batcher batcher(*world.engine, limits);
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
