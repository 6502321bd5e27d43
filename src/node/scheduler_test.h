// For tests of many actors on one engine: scripts that are lived through alone, or at once on a stage.
#pragma once

#include <gtest/gtest.h>

#include "actor/caller.h"
#include "actor/test_world.h"
#include "node/scheduler.h"

namespace driftwood::node {
using actor::Actor;
using actor::Call;
using actor::Heard;
using actor::World;

inline std::string words(int count) {
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
    int pause = 0;    // rounds between an answer and the next message
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
    int answered = 0;  // round of the last answer
};

using Contents = std::map<std::string, std::string>;

inline Contents image_of(Actor& actor) {
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

inline Life alone(const Script& script, uint32_t kv_blocks = 256) {
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
    // With a directory, idle actors are parked there.
    Stage(World& world, const std::vector<Script>& scripts, const StepLimits& limits, std::string directory = {},
          const ParkingPolicy& policy = {})
        : world_(world),
          scripts_(scripts),
          directory_(std::move(directory)),
          parking_(
              directory_, [this](const std::string& image) { return thaw(image); }, clock, policy),
          scheduler_(
              *world.engine, world.blocks, {.step = limits, .threads = 2},
              [this](Scheduler::Key key, const actor::Step& step) { take(key, step); },
              directory_.empty() ? nullptr : &parking_) {
        for (const Script& script : scripts) modules_.push_back(script.module(world));
        lives_.resize(scripts.size());
        players_.resize(scripts.size());
    }

    StepClock clock{0, 1};  // of the parking

    // Called before every round with its number.
    std::function<void(int)> before_round;

    std::vector<Life> play() {
        size_t over = 0;
        for (int round = 0; over < scripts_.size() && round < 5000; ++round) {
            if (before_round) before_round(round);
            for (size_t i = 0; i < scripts_.size(); ++i) {
                if (scripts_[i].arrives == round) arrive(i);
                if (players_[i] && go_on(i, round)) ++over;
            }
            const Scheduler::Round done = scheduler_.round();
            reports.push_back(done.forward);
            parked += done.parked;
            fetched += done.fetched;
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
    uint32_t parked = 0, fetched = 0;
    Heard others;  // actors that are in no script

  private:
    void arrive(size_t i) {
        players_[i] = std::make_unique<Player>(world_, *modules_[i], scripts_[i]);
        players_[i]->key = scheduler_.add(std::move(players_[i]->live)).value();
    }
    // The next message a while after the last one was answered; true when that was the last.
    bool go_on(size_t i, int round) {
        Player& player = *players_[i];
        if (!scheduler_.parked(player.key)) {
            const Actor& actor = scheduler_.at(player.key);
            if (actor.state() != Actor::State::kWaiting || !actor.listens()) player.answered = round;
        }
        if (player.answered == round || round - player.answered <= scripts_[i].pause) return false;
        if (player.sent < scripts_[i].messages.size()) {
            EXPECT_TRUE(scheduler_.send(player.key, scripts_[i].messages[player.sent++]).ok());
            player.answered = round;
            return false;
        }
        lives_[i] = {image(player), player.heard.replies, player.heard.logs};
        scheduler_.remove(player.key);
        players_[i].reset();
        return true;
    }
    Contents image(const Player& player) {
        if (!scheduler_.parked(player.key)) return image_of(scheduler_.at(player.key));
        return actor::contents(directory_ + "/" + std::to_string(player.key) + ".actor");
    }
    Result<LiveActor> thaw(const std::string& image) {
        for (size_t i = 0; i < players_.size(); ++i) {
            if (!players_[i] || !image.ends_with("/" + std::to_string(players_[i]->key) + ".actor")) continue;
            LiveActor live;
            DW_ASSIGN(auto reader, file::SectionReader::open(image, file::SectionReader::Hashes::kRequired));
            DW_ASSIGN(auto thawed, Actor::thaw(players_[i]->context(world_), *modules_[i], scripts_[i].options,
                                               std::make_shared<const file::SectionReader>(std::move(reader))));
            live.actor = std::move(thawed.actor);
            return live;
        }
        return error(ErrorCode::kNotFound, image + ": of nobody");
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
    std::string directory_;
    Parking parking_;
    std::vector<std::unique_ptr<Player>> players_;
    Scheduler scheduler_;
    std::vector<Life> lives_;
};

// An image names its parent, and nothing else tells that there was one.
inline Life forget(Life life) {
    life.image.erase("metadata.parent_image");
    return life;
}

inline void expect_same(const Life& got, const Life& want) {
    EXPECT_EQ(got.replies, want.replies);
    EXPECT_EQ(got.logs, want.logs);
    EXPECT_EQ(actor::differences(got.image, want.image), std::vector<std::string>{});
}

inline std::unique_ptr<wasm::Module> caller_module(World& world) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wasm::caller_guest_wat())).value();
}

inline Call decode_of(int64_t tokens) { return {"decode", {1, wasm::kCallerFree, tokens, wasm::kCallerFree, 512}}; }

// Two sessions of one actor, whose answers and decodes end in an order that the sizes of chunks decide.
inline std::vector<std::string> two_sessions() {
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

inline std::vector<Script> crowd() {
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

}  // namespace driftwood::node
