// What guests in Rust see of the runtime, and what the runtime sees of them. That they freeze like others is shown in
// freeze_test.cc.
#include <gtest/gtest.h>

#include "actor/rust_guests.h"

namespace driftwood::actor {
namespace {

// One actor and what it has said so far.
struct Talk {
    Talk(std::unique_ptr<wasm::Module> (*make)(World&), const ActorOptions& options)
        : module(make(world)), actor(Actor::create(world.context(), *module, options).value()) {
        run(*actor, heard);
    }

    void say(const std::string& message) {
        EXPECT_TRUE(actor->send(message).ok());
        run(*actor, heard);
    }

    World world;
    std::unique_ptr<wasm::Module> module;
    std::unique_ptr<Actor> actor;
    Heard heard;
};

TEST(RustSdkTest, the_chat_in_rust_says_what_the_chat_in_cpp_says) {
    Talk cpp(chat_module, chat_options());
    Talk rust(chat_rust_module, chat_options());
    for (const char* message : {"Hello, I am Ada.", "What is my name?", ""}) {
        cpp.say(message);
        rust.say(message);
    }
    EXPECT_EQ(rust.heard.answers, 3);
    EXPECT_GT(rust.heard.replies.size(), 3U);
    EXPECT_EQ(rust.heard.replies, cpp.heard.replies);
    EXPECT_EQ(rust.actor->sessions()[0]->tokens(), cpp.actor->sessions()[0]->tokens());
}

TEST(RustSdkTest, the_chat_says_when_the_context_is_full_and_lives_on) {
    Talk rust(chat_rust_module, chat_options());
    std::string flood;
    for (int i = 0; i < 2000; ++i) flood += std::to_string(i) + " ";
    rust.say(flood);
    EXPECT_NE(rust.heard.replies.find("filled the model's context"), std::string::npos) << rust.heard.replies;
    rust.say("Hello");
    EXPECT_EQ(rust.heard.answers, 2);
    EXPECT_EQ(rust.actor->state(), Actor::State::kWaiting);
}

TEST(RustSdkTest, every_stop_of_the_tour_is_as_it_should_be) {
    Talk tour(tour_module, {});
    const auto messages = tour_messages();
    for (const std::string& message : messages) {
        tour.say(message);
        ASSERT_EQ(tour.actor->state(), Actor::State::kWaiting) << message << ": " << tour.heard.logs;
    }
    EXPECT_EQ(tour.heard.answers, static_cast<int>(messages.size()));
    EXPECT_EQ(tour.heard.replies.rfind("3000 bytes, ", 0), 0U) << tour.heard.replies;
    EXPECT_NE(tour.heard.replies.find("|5 bytes, "), std::string::npos) << tour.heard.replies;
    EXPECT_NE(tour.heard.logs.find("a line" + std::string(1 << 16, 'x')), std::string::npos);
    EXPECT_TRUE(tour.actor->sessions().empty());
}

TEST(RustSdkTest, a_nap_ends_when_its_time_has_come) {
    Talk tour(tour_module, {});
    tour.world.clock = StepClock(tour.actor->clock_ns(), 0);
    tour.say("naps");
    for (const int64_t seconds : {2, 1}) {
        EXPECT_EQ(tour.heard.answers, 0);
        ASSERT_EQ(tour.actor->next_timer_in_ns(), seconds * 1'000'000'000);
        tour.world.clock.set_next_ns(tour.world.clock.now_ns() + seconds * 1'000'000'000);
        EXPECT_TRUE(tour.actor->wake());
        run(*tour.actor, tour.heard);
    }
    EXPECT_EQ(tour.heard.replies, "rested|") << tour.heard.logs;
    EXPECT_EQ(tour.actor->next_timer_in_ns(), std::nullopt);  // the minute was cancelled
}

TEST(RustSdkTest, a_body_that_has_returned_leaves_an_actor_that_is_quiet) {
    Talk tour(tour_module, {});
    tour.say("end");
    const int answers = tour.heard.answers;
    tour.say("anybody there?");
    EXPECT_EQ(tour.actor->state(), Actor::State::kWaiting);
    EXPECT_EQ(tour.heard.answers, answers);
}

TEST(RustSdkTest, a_panic_and_an_error_end_the_actor_and_are_in_its_log) {
    for (const auto& [message, reason] : {std::pair{"panic", "as you wish"}, {"error", "ENOSPC (28)"}}) {
        Talk tour(tour_module, {});
        tour.say(message);
        EXPECT_EQ(tour.actor->state(), Actor::State::kFailed);
        EXPECT_NE(tour.heard.logs.find(reason), std::string::npos) << tour.heard.logs;
    }
}

}  // namespace
}  // namespace driftwood::actor
