// What guests in C++ see of the runtime beyond what `chat` uses.
#include <gtest/gtest.h>

#include "actor/test_world.h"
#include "embedded_cpp_guests.h"
#include "session/utf8_stream.h"

namespace driftwood::actor {
namespace {

std::unique_ptr<wasm::Module> compile(World& world, std::span<const uint8_t> bytes) {
    return wasm::Module::compile(*world.runtime, {bytes.begin(), bytes.end()}).value();
}

// A conversation whose sleeps take no time.
struct Talk {
    Talk(std::span<const uint8_t> guest, const ActorOptions& options) : module(compile(world, guest)) {
        world.clock = StepClock(kTestClockStart, 0);
        actor = Actor::create(world.context(), *module, options).value();
        run(*actor, heard);
    }
    std::string say(const std::string& message) {
        heard.replies.clear();
        EXPECT_TRUE(actor->send(message).ok());
        run(*actor, heard);
        while (const auto timer = actor->next_timer_in_ns()) {
            world.clock.set_next_ns(world.clock.now_ns() + *timer);
            EXPECT_TRUE(actor->wake());
            run(*actor, heard);
        }
        return heard.replies;
    }

    World world;
    std::unique_ptr<wasm::Module> module;
    std::unique_ptr<Actor> actor;
    Heard heard;
};

TEST(CppSdkTest, every_stop_of_the_tour_is_as_it_should_be) {
    Talk tour(embedded::cpp_tour_wasm(), {});
    for (const char* stop : {"tensors", "naps", "words"}) EXPECT_EQ(tour.say(stop), "fine|") << stop;
}

TEST(CppSdkTest, a_guest_that_picks_the_likeliest_tokens_says_what_a_greedy_generate_says) {
    const ActorOptions options{.limits = {}, .wasi = {.args = {"guest"}, .environment = {"MAX_TOKENS=12"}}};
    Talk chat(embedded::chat_wasm(), options);
    Talk picker(embedded::picker_wasm(), options);
    for (const char* message : {"Hello, I am Ada.", "What is my name?", "And what is yours?"}) {
        const std::string said = chat.say(message);
        // What is no character comes out of a stream as U+FFFD.
        std::string picked = picker.say(message);
        picked.pop_back();  // Heard's mark at the end of an answer
        session::Utf8Stream characters;
        picked = characters.push(picked);
        picked += characters.finish();
        EXPECT_EQ(picked + "|", said);
    }
    EXPECT_EQ(picker.actor->sessions()[0]->tokens(), chat.actor->sessions()[0]->tokens());
    EXPECT_EQ(picker.actor->sessions()[0]->parts()[3], chat.actor->sessions()[0]->parts()[3]);
}

}  // namespace
}  // namespace driftwood::actor
