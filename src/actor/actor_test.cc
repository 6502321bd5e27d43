#include <gtest/gtest.h>

#include <chrono>

#include "actor/limits.h"
#include "actor/nosy_guest.h"
#include "actor/test_world.h"

namespace driftwood::actor {
namespace {

std::unique_ptr<wasm::Module> compile(World& world, const std::string& wat) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wat)).value();
}

std::string guest(const std::string& start, const std::string& complete = "", const std::string& more = "") {
    return R"((module
      (import "driftwood" "receive" (func $receive (param i32 i32) (result i64)))
      (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
      (import "driftwood" "session_open" (func $open (result i64)))
      (import "driftwood" "session_close" (func $close (param i64) (result i32)))
      (import "driftwood" "session_append" (func $append (param i64 i32 i32 i32 i32) (result i64)))
      (import "driftwood" "generate" (func $generate (param i64 i32 i32) (result i64)))
      (import "driftwood" "prefill" (func $prefill (param i64) (result i64)))
      (import "driftwood" "next" (func $next (param i64 i32 i32) (result i64)))
      (import "driftwood" "cancel" (func $cancel (param i64) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "user")
      (data (i32.const 32) "hello there, this is a message")
      (global $session (mut i64) (i64.const 0))
      (func $say_i64 (param i64) (i64.store (i32.const 0) (local.get 0))
        (drop (call $reply (i32.const 0) (i32.const 8) (i32.const 0)))) )" +
           more + "(func (export \"driftwood_start\") " + start +
           ") (func (export \"driftwood_complete\") (param $op i64) (param $status i64) " + complete + "))";
}

std::vector<int64_t> numbers(const std::string& replies) {
    std::vector<int64_t> all(replies.size() / sizeof(int64_t));
    if (!all.empty()) std::memcpy(all.data(), replies.data(), all.size() * sizeof(int64_t));
    return all;
}

// Runs a guest to where it waits; what it replied, as numbers. No deadline is near: a megabyte of text takes its time.
std::vector<int64_t> replies_of(const std::string& wat) {
    World world;
    const auto module = compile(world, wat);
    auto actor = Actor::create(world.context(), *module, {.limits = {.turn_deadline_ms = 60'000}, .wasi = {}}).value();
    Heard heard;
    run(*actor, heard);
    EXPECT_EQ(actor->state(), Actor::State::kWaiting);
    return numbers(heard.replies);
}

TEST(ActorTest, chat_answers_and_remembers_its_settings) {
    World world;
    const auto module = chat_module(world);
    auto actor = Actor::create(world.context(), *module, chat_options()).value();
    Heard heard;
    run(*actor, heard);
    EXPECT_EQ(actor->state(), Actor::State::kWaiting);
    ASSERT_TRUE(actor->send("Hello!").ok());
    run(*actor, heard);
    EXPECT_EQ(heard.answers, 1);
    ASSERT_EQ(actor->sessions().size(), 1U);
    EXPECT_EQ(actor->sessions()[0]->parts().size(), 2U);
}

TEST(ActorTest, the_same_seeds_give_the_same_life) {
    std::vector<std::string> lives;
    for (int i = 0; i < 2; ++i) {
        World world;
        const auto module = nosy_module(world);
        auto actor = Actor::create(world.context(), *module, nosy_options()).value();
        Heard heard;
        run(*actor, heard);
        ASSERT_TRUE(actor->send("x").ok());
        run(*actor, heard);
        lives.push_back(heard.replies + heard.logs);
    }
    EXPECT_EQ(lives[0], lives[1]);
    EXPECT_GT(lives[0].size(), 64U);
}

TEST(ActorTest, a_trap_fails_the_actor_and_keeps_its_log_but_not_its_replies) {
    World world;
    const auto module =
        compile(world, guest("(drop (call $reply (i32.const 0) (i32.const 8) (i32.const 1))) unreachable"));
    auto actor = Actor::create(world.context(), *module, {}).value();
    const Step step = actor->step();
    ASSERT_TRUE(step.error.has_value());
    EXPECT_EQ(step.error->code, ErrorCode::kTrap);
    EXPECT_TRUE(step.effects.empty());
    EXPECT_EQ(actor->state(), Actor::State::kFailed);
    EXPECT_EQ(actor->step().kind, Step::Kind::kNothing);
    const file::TestDirectory directory;
    EXPECT_FALSE(actor->freeze(directory.path() + "/image", not_durable()).ok());
}

TEST(ActorTest, an_endless_turn_ends_at_its_deadline_and_a_neighbour_goes_on) {
    World world;
    const auto chat = chat_module(world);
    auto neighbour = Actor::create(world.context(), *chat, chat_options()).value();
    const auto module = compile(world, guest("(loop $forever (br $forever))"));
    ActorOptions options;
    options.limits.turn_deadline_ms = 200;
    auto actor = Actor::create(world.context(), *module, options).value();
    const auto start = std::chrono::steady_clock::now();
    const Step step = actor->step();
    const auto took = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(step.error.has_value());
    EXPECT_EQ(step.error->code, ErrorCode::kDeadline);
    EXPECT_LT(took, std::chrono::milliseconds(5000));  // far beyond the deadline, for a machine that is busy
    Heard heard;
    run(*neighbour, heard);
    ASSERT_TRUE(neighbour->send("still there?").ok());
    run(*neighbour, heard);
    EXPECT_EQ(heard.answers, 1);
}

TEST(ActorTest, memory_grows_to_the_limit_and_no_further) {
    World world;
    const auto module = compile(world, guest(R"(
        (local $pages i64)
        (loop $more
          (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
            (then (local.set $pages (i64.add (local.get $pages) (i64.const 1))) (br $more))))
        (call $say_i64 (local.get $pages)))"));
    ActorOptions options;
    options.limits.memory_bytes = 1 << 20;
    auto actor = Actor::create(world.context(), *module, options).value();
    Heard heard;
    run(*actor, heard);
    EXPECT_EQ(numbers(heard.replies), std::vector<int64_t>{15});
    EXPECT_EQ(actor->state(), Actor::State::kWaiting);
}

TEST(ActorTest, handles_that_do_not_exist_are_errors) {
    EXPECT_EQ(replies_of(guest(R"(
        (call $say_i64 (call $append (i64.const 99) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5)))
        (call $say_i64 (call $generate (i64.const -1) (i32.const 64) (i32.const 24)))
        (call $say_i64 (call $next (i64.const 7) (i32.const 64) (i32.const 24)))
        (call $say_i64 (call $prefill (i64.const 0)))
        (call $say_i64 (i64.extend_i32_s (call $cancel (i64.const 123456789))))
        (call $say_i64 (i64.extend_i32_s (call $close (i64.const 5)))))")),
              std::vector<int64_t>(6, -DRIFTWOOD_EBADF));
}

TEST(ActorTest, a_session_that_is_busy_takes_nothing_else) {
    EXPECT_EQ(replies_of(guest(R"(
        (global.set $session (call $open))
        (drop (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5)))
        (drop (call $prefill (global.get $session)))
        (call $say_i64 (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5)))
        (call $say_i64 (call $generate (global.get $session) (i32.const 64) (i32.const 24)))
        (call $say_i64 (call $prefill (global.get $session))))")),
              std::vector<int64_t>(3, -DRIFTWOOD_EBUSY));
}

TEST(ActorTest, closing_a_session_cancels_what_waits_on_it) {
    const auto got = replies_of(guest(R"(
        (global.set $session (call $open))
        (drop (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 20)))
        (call $say_i64 (call $prefill (global.get $session)))
        (drop (call $close (global.get $session))))",
                                      "(call $say_i64 (local.get $op)) (call $say_i64 (local.get $status))"));
    ASSERT_EQ(got.size(), 3U);
    EXPECT_EQ(got[0], got[1]);  // the operation, and its one completion
    EXPECT_EQ(got[2], -DRIFTWOOD_ECANCELED);
}

TEST(ActorTest, a_message_that_does_not_fit_says_how_much_is_needed_and_stays) {
    World world;
    const auto module = compile(world, guest("(drop (call $receive (i32.const 256) (i32.const 2)))", R"(
        (call $say_i64 (local.get $status))
        (if (i64.lt_s (local.get $status) (i64.const 0))
          (then (drop (call $receive (i32.const 256) (i32.const 100)))))
    )"));
    auto actor = Actor::create(world.context(), *module, {}).value();
    Heard heard;
    ASSERT_TRUE(actor->send("hello").ok());
    run(*actor, heard);
    EXPECT_EQ(numbers(heard.replies), (std::vector<int64_t>{-(5 << 16 | DRIFTWOOD_E2BIG), 5}));
}

TEST(ActorTest, operations_beyond_the_limit_are_refused) {
    const auto got = replies_of(guest(R"(
        (local $i i32) (local $last i64)
        (loop $more
          (local.set $last (call $receive (i32.const 0) (i32.const 8)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $i) (i32.const 2000))))
        (call $say_i64 (local.get $last)))"));
    EXPECT_EQ(got, std::vector<int64_t>{-DRIFTWOOD_EOVERFLOW});
}

TEST(ActorTest, a_text_too_long_for_one_append_is_refused) {
    EXPECT_EQ(replies_of(guest(R"(
        (drop (memory.grow (i32.const 40)))
        (global.set $session (call $open))
        (memory.fill (i32.const 65536) (i32.const 120) (i32.const 1048577))
        (call $say_i64 (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 65536)
                                     (i32.const 1048577)))
        (call $say_i64 (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 65536)
                                     (i32.const 1048576))))")),
              (std::vector<int64_t>{-DRIFTWOOD_EOVERFLOW, -DRIFTWOOD_ENOSPC}));
}

TEST(ActorTest, the_bytes_of_a_turns_replies_are_bounded) {
    World world;
    const auto module = compile(world, guest(R"(
        (local $i i32)
        (drop (memory.grow (i32.const 40)))
        (loop $more
          (drop (call $reply (i32.const 0) (i32.const 1048576) (i32.const 0)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $i) (i32.const 100)))))"));
    auto actor = Actor::create(world.context(), *module, {}).value();
    Heard heard;
    run(*actor, heard);
    EXPECT_EQ(heard.replies.size(), kMaxEffectBytesPerTurn);
}

TEST(ActorTest, the_mailbox_is_bounded) {
    World world;
    const auto module = compile(world, guest(""));
    auto actor = Actor::create(world.context(), *module, {}).value();
    EXPECT_FALSE(actor->send(std::string(kMaxMessageBytes + 1, 'x')).ok());
    for (size_t i = 0; i < kMaxMailboxMessages; ++i) ASSERT_TRUE(actor->send("x").ok());
    const auto refused = actor->send("one more");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
}

// The model fails while the guest waits for something else: the stream keeps the error until it is asked.
TEST(ActorTest, a_stream_that_failed_says_so_after_a_thaw_too) {
    const std::string wat = guest(R"(
        (global.set $session (call $open))
        (drop (call $append (global.get $session) (i32.const 16) (i32.const 4) (i32.const 1024) (i32.const 200)))
        (global.set $stream (call $generate (global.get $session) (i32.const 64) (i32.const 24)))
        (drop (call $receive (i32.const 256) (i32.const 16))))",
                                  R"(
        (if (global.get $asked) (then (call $say_i64 (local.get $status))) (else
          (global.set $asked (i32.const 1))
          (drop (call $next (global.get $stream) (i32.const 512) (i32.const 16))))))",
                                  "(global $stream (mut i64) (i64.const 0)) (global $asked (mut i32) (i32.const 0))");
    const file::TestDirectory directory;
    {
        World world("auto", 1);  // room for 64 tokens, less than the message needs
        const auto module = compile(world, wat);
        auto actor = Actor::create(world.context(), *module, {}).value();
        Heard heard;
        run(*actor, heard);
        ASSERT_EQ(actor->state(), Actor::State::kWaiting) << heard.logs;
        ASSERT_TRUE(actor->freeze(directory.file("image"), not_durable()).ok());
    }
    World world;
    const auto module = compile(world, wat);
    auto thawed = thaw_file(world, *module, directory.file("image"));
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    ASSERT_TRUE(thawed->actor->send("well?").ok());
    Heard heard;
    run(*thawed->actor, heard);
    EXPECT_EQ(numbers(heard.replies), std::vector<int64_t>{-DRIFTWOOD_ENOMEM});
}

TEST(ActorTest, a_guest_that_exits_has_stopped) {
    World world;
    const auto module = compile(world, R"((module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "driftwood_start") (call $exit (i32.const 3)))
        (func (export "driftwood_complete") (param i64 i64))))");
    auto actor = Actor::create(world.context(), *module, {}).value();
    Heard heard;
    run(*actor, heard);
    EXPECT_EQ(actor->state(), Actor::State::kStopped);
    EXPECT_EQ(actor->exit_code(), 3);
}

}  // namespace
}  // namespace driftwood::actor
