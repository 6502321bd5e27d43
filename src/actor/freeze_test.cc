// Freezing at any boundary between two steps, and going on elsewhere, changes nothing that anybody can see.
#include <gtest/gtest.h>

#include "actor/busy_guest.h"
#include "actor/caller.h"
#include "actor/nosy_guest.h"
#include "actor/rust_guests.h"
#include "actor/test_world.h"

namespace driftwood::actor {
namespace {

struct Scene {
    const char* name;
    std::unique_ptr<wasm::Module> (*module)(World&);
    ActorOptions options;
    std::vector<std::string> messages;
    bool all_at_once = false;  // the messages are in the mailbox from the beginning
    bool sleeps = false;       // the clock stands still, but for an actor that waits for a timer
};

// Longer than a chunk of prefill, so that some boundaries lie inside it.
std::string long_message() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "word" + std::to_string(i) + " ";
    return text;
}

std::unique_ptr<wasm::Module> caller_module(World& world) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wasm::caller_guest_wat())).value();
}

// Timers, a decode of several steps with its logits in guest memory, an answer that the guest picks, a cancelled one.
std::vector<std::string> picking_messages() {
    constexpr int64_t kZeros = wasm::kCallerFree, kLogits = wasm::kCallerFree + 65536, kSecond = 1'000'000'000;
    return {encode_calls({{"session_open", {}},
                          {"sleep", {5 * kSecond}},
                          {"decode", {1, kZeros, 150, kLogits, 512}},
                          {"sleep", {2 * kSecond}},
                          {"now", {}}}),
            encode_calls({{"session_rewind_tokens", {1, 70}},
                          {"session_answer", {1}},
                          {"sleep", {kSecond}},
                          {"decode", {1, kLogits + 4096, 1, kLogits, 512}},
                          {"now", {}}}),
            encode_calls({{"session_fork", {1}},
                          {"decode", {2, kZeros, 3, kLogits, 512}},
                          {"decode", {1, kZeros, 2, kLogits + 2048, 512}},
                          {"cancel", {10}},
                          {"session_tokens", {1}},
                          {"session_tokens", {2}}})};
}

std::vector<Scene> scenes() {
    return {
        {.name = "chat",
         .module = chat_module,
         .options = chat_options(),
         .messages = {long_message(), "What is my name?"}},
        {.name = "chat_rust",
         .module = chat_rust_module,
         .options = chat_options(),
         .messages = {long_message(), "What is my name?"}},
        {.name = "tour", .module = tour_module, .options = {}, .messages = tour_messages()},
        {.name = "nosy", .module = nosy_module, .options = nosy_options(), .messages = {"a", "bb", "ccc"}},
        {.name = "busy", .module = busy_module, .options = {}, .messages = {"a", "bb"}, .all_at_once = true},
        {.name = "picking", .module = caller_module, .options = {}, .messages = picking_messages(), .sleeps = true}};
}

// A scene's module, compiled once for each of the two machines that it is played on, by a runtime of their own.
struct Machines {
    explicit Machines(const Scene& scene) : here(scene.module(here_world)), elsewhere(scene.module(elsewhere_world)) {}
    World here_world, elsewhere_world;
    std::unique_ptr<wasm::Module> here, elsewhere;
};

// Lives through the scene. At boundary `freeze_at` (counted in steps; none if negative) the actor is frozen, forgotten,
// and thawed in a world of its own. Ends with an image.
struct Life {
    std::string replies, logs;
    int steps = 0;
    int queued_boundaries = 0;  // where a completion waited to be delivered
    int mid_prefill_boundaries = 0;
    int mid_answer_boundaries = 0;
};

class Living {
  public:
    Living(const Scene& scene, const Machines& machines, const file::TestDirectory& directory)
        : scene_(scene), machines_(machines), directory_(directory) {
        world_ = std::make_unique<World>();
        if (scene.sleeps) world_->clock = StepClock(kTestClockStart, 0);
        actor_ = Actor::create(world_->context(), *machines.here, scene.options).value();
    }

    Life live(int freeze_at, const std::string& final_path) {
        Heard heard;
        if (!scene_.all_at_once) advance(heard, freeze_at);
        for (const std::string& message : scene_.messages) {
            EXPECT_TRUE(actor_->send(message).ok());
            if (!scene_.all_at_once) advance(heard, freeze_at);
        }
        advance(heard, freeze_at);
        EXPECT_EQ(heard.answers, static_cast<int>(scene_.messages.size())) << heard.logs;
        EXPECT_TRUE(actor_->freeze(final_path, not_durable()).ok());
        life_.replies = heard.replies;
        life_.logs = heard.logs;
        return life_;
    }

  private:
    void advance(Heard& heard, int freeze_at) {
        for (;;) {
            if (scene_.sleeps) actor_->wake();
            const bool ready = actor_->state() == Actor::State::kReady;
            const auto timer = scene_.sleeps ? actor_->next_timer_in_ns() : std::nullopt;
            if (!ready && !timer) break;
            if (life_.steps++ == freeze_at) elsewhere();
            note_boundary();
            if (ready) {
                heard.take(actor_->step());
            } else {
                world_->clock.set_next_ns(world_->clock.now_ns() + *timer);
            }
        }
        ASSERT_EQ(actor_->state(), Actor::State::kWaiting);
    }

    void note_boundary() {
        if (actor_->completions_waiting() > 0) ++life_.queued_boundaries;
        for (const session::Session* session : actor_->sessions()) {
            if (session->finish() != session::Finish::kRunning) continue;
            const size_t pending = session->tokens().size() - session->computed();
            if (pending > 1 && session->computed() > 0) ++life_.mid_prefill_boundaries;
            if (pending <= 1) ++life_.mid_answer_boundaries;
        }
    }

    void elsewhere() {
        const std::string path = directory_.path() + "/frozen";
        ASSERT_TRUE(actor_->freeze(path, not_durable()).ok());
        const int64_t clock = scene_.sleeps ? world_->clock.now_ns() : actor_->clock_ns() + kTestClockStep;
        actor_.reset();
        world_ = std::make_unique<World>("reference");  // another engine and device, too
        world_->device = compute::make_device("reference").value();
        if (scene_.sleeps) world_->clock = StepClock(clock, 0);
        world_->clock.set_next_ns(clock);
        auto thawed = thaw_file(*world_, *machines_.elsewhere, path);
        ASSERT_TRUE(thawed.ok()) << thawed.error().message;
        EXPECT_EQ(thawed->tokens_again, 0U);
        actor_ = std::move(thawed->actor);
    }

    const Scene& scene_;
    const Machines& machines_;
    const file::TestDirectory& directory_;
    std::unique_ptr<World> world_;
    std::unique_ptr<Actor> actor_;
    Life life_;
};

TEST(FreezeTest, at_every_step_of_a_conversation_changes_nothing) {
    for (const Scene& scene : scenes()) {
        SCOPED_TRACE(scene.name);
        const Machines machines(scene);
        const file::TestDirectory directory;
        const Life unbroken = Living(scene, machines, directory).live(-1, directory.path() + "/unbroken");
        const auto expected = contents(directory.path() + "/unbroken");
        EXPECT_GT(unbroken.queued_boundaries, 0);
        if (std::string(scene.name).starts_with("chat")) {
            EXPECT_GT(unbroken.mid_prefill_boundaries, 0);
            EXPECT_GT(unbroken.mid_answer_boundaries, 0);
        }
        for (int at = 0; at < unbroken.steps; ++at) {
            SCOPED_TRACE("frozen before step " + std::to_string(at) + " of " + std::to_string(unbroken.steps));
            const Life life = Living(scene, machines, directory).live(at, directory.path() + "/broken");
            ASSERT_EQ(life.replies, unbroken.replies);
            ASSERT_EQ(life.logs, unbroken.logs);
            ASSERT_EQ(differences(expected, contents(directory.path() + "/broken")), std::vector<std::string>{});
        }
    }
}

TEST(FreezeTest, time_goes_on_when_the_other_clock_is_behind) {
    const file::TestDirectory directory;
    World here;
    const auto module = chat_module(here);
    auto actor = Actor::create(here.context(), *module, chat_options()).value();
    Heard heard;
    run(*actor, heard);
    ASSERT_TRUE(actor->freeze(directory.path() + "/image", not_durable()).ok());
    const int64_t frozen_at = actor->clock_ns();

    World there;
    there.clock.set_next_ns(1'000);  // 1970
    const auto module_there = chat_module(there);
    auto thawed = thaw_file(there, *module_there, directory.path() + "/image");
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    ASSERT_TRUE(thawed->actor->send("hello").ok());
    run(*thawed->actor, heard);
    EXPECT_GE(thawed->actor->clock_ns(), frozen_at);
    EXPECT_LT(thawed->actor->clock_ns(), frozen_at + 1'000'000'000);
}

TEST(FreezeTest, keeps_identity_and_names_its_parent) {
    const file::TestDirectory directory;
    World world;
    const auto module = chat_module(world);
    auto actor = Actor::create(world.context(), *module, chat_options()).value();
    Heard heard;
    run(*actor, heard);
    const auto first = actor->freeze(directory.path() + "/first", not_durable()).value();
    auto thawed = thaw_file(world, *module, directory.path() + "/first");
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    EXPECT_EQ(thawed->actor->id(), actor->id());
    ASSERT_TRUE(thawed->actor->freeze(directory.path() + "/second", not_durable()).ok());
    const auto second =
        file::SectionReader::open(directory.path() + "/second", file::SectionReader::Hashes::kRequired).value();
    EXPECT_EQ(summarize(second)->parent_image, first.root_hash);
}

TEST(FreezeTest, refuses_the_image_of_another_module) {
    const file::TestDirectory directory;
    World world;
    const auto chat = chat_module(world);
    const auto nosy = nosy_module(world);
    auto actor = Actor::create(world.context(), *chat, chat_options()).value();
    ASSERT_TRUE(actor->freeze(directory.path() + "/image", not_durable()).ok());
    const auto thawed = thaw_file(world, *nosy, directory.path() + "/image");
    ASSERT_FALSE(thawed.ok());
    EXPECT_EQ(thawed.error().code, ErrorCode::kMismatch);
}

}  // namespace
}  // namespace driftwood::actor
