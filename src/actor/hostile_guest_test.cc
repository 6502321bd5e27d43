// Guests that mean harm to the runtime behind the ABI: any call with any arguments from inside a turn, handles that
// were never given, growth while a tensor operation waits, output without end. Whatever happens, it happens to them.
#include <gtest/gtest.h>

#include <random>

#include "actor/limits.h"
#include "actor/test_world.h"
#include "wasm/host_calls.h"

namespace driftwood::actor {
namespace {

using wasm::HostCall;
using wasm::Slot;

std::unique_ptr<wasm::Module> compile(World& world, const std::string& wat) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(wat)).value();
}

std::string type_of(Slot slot) { return slot == Slot::kI64 ? "i64" : "i32"; }

std::string import_of(const HostCall& call) {
    std::string wat = "(import \"" + std::string(call.module) + "\" \"" + std::string(call.name) + "\" (func $" +
                      std::string(call.name) + " (param";
    for (const Slot slot : call.parameters) wat += " " + type_of(slot);
    return wat + ")" + (call.result ? " (result " + type_of(*call.result) + ")" : "") + "))\n";
}

// What handles, offsets, lengths and sizes are at their worst; the small ones are handles that exist, of every kind.
int64_t worst(std::mt19937_64& random) {
    constexpr int64_t kPool[] = {0,     1,      2,      3,         4,         5,   6,    7,         8,
                                 16,    24,     40,     56,        64,        100, 4096, 65535,     65536,
                                 65537, 131071, 131072, INT32_MAX, INT32_MIN, -1,  -8,   INT64_MAX, INT64_MIN};
    return kPool[random() % std::size(kPool)];
}

std::string call_of(const HostCall& call, std::mt19937_64& random) {
    std::string wat = "(call $" + std::string(call.name);
    for (const Slot slot : call.parameters) {
        const int64_t value = worst(random);
        wat += " (" + type_of(slot) + ".const " +
               std::to_string(slot == Slot::kI64 ? value : static_cast<int64_t>(static_cast<int32_t>(value))) + ")";
    }
    wat += ")\n";
    return call.result ? "(drop " + wat + ")" : wat;
}

// A guest that makes `count` calls in every turn, with structs and texts out of random memory. It also keeps a message
// and a session at hand, so that calls find something to work on.
std::string any_calls(uint64_t seed, int count) {
    std::mt19937_64 random(seed);
    std::vector<HostCall> calls;
    std::string imports;
    for (const HostCall& call : wasm::host_calls()) {
        if (call.name == "proc_exit") continue;  // would end the test, not the runtime
        calls.push_back(call);
        imports += import_of(call);
    }
    const auto body = [&] {
        std::string wat;
        for (int i = 0; i < count; i++) wat += call_of(calls[random() % calls.size()], random);
        return wat;
    };
    std::string data;
    for (int i = 0; i < 4096; i++) {
        char piece[8];
        std::snprintf(piece, sizeof piece, "\\%02x", static_cast<unsigned>(random() % (i % 64 < 32 ? 256 : 3)));
        data += piece;
    }
    return "(module " + imports + "(memory (export \"memory\") 2) (data (i32.const 0) \"" + data +
           "\") (data (i32.const 64) \"user\") (func (export \"driftwood_start\") (drop (call $session_open))"
           "(drop (call $receive (i32.const 70000) (i32.const 50)))" +
           body() + ") (func (export \"driftwood_complete\") (param i64 i64) " + body() +
           "(drop (call $receive (i32.const 70000) (i32.const 50)))))";
}

// The calls come from inside driftwood_start and driftwood_complete; whatever they are, they are answered, and the
// actor can still be frozen and thawed.
TEST(HostileGuestTest, any_call_with_any_arguments_is_answered) {
    const file::TestDirectory directory;
    for (uint64_t seed = 0; seed < 12; seed++) {
        World world;
        const auto module = compile(world, any_calls(seed, 400));
        auto actor = Actor::create(world.context(), *module, {}).value();
        for (int steps = 0; steps < 60; steps++) {
            ASSERT_TRUE(actor->state() != Actor::State::kWaiting || actor->send("a message").ok());
            const Step step = actor->step();
            ASSERT_FALSE(step.error.has_value()) << "seed " << seed << ": " << step.error->message;
        }
        const std::string path = directory.file(std::to_string(seed) + ".actor");
        ASSERT_TRUE(actor->freeze(path, not_durable()).ok()) << "seed " << seed;
        actor.reset();
        auto thawed = thaw_file(world, *module, path);
        ASSERT_TRUE(thawed.ok()) << "seed " << seed << ": " << thawed.error().message;
        for (int steps = 0; steps < 10 && thawed->actor->state() == Actor::State::kReady; steps++) {
            EXPECT_FALSE(thawed->actor->step().error.has_value()) << "seed " << seed;
        }
    }
}

constexpr const char* kOneSession = R"(
    (import "driftwood" "session_open" (func $open (result i64)))
    (import "driftwood" "session_close" (func $close (param i64) (result i32)))
    (import "driftwood" "session_tokens" (func $tokens (param i64) (result i64)))
    (import "driftwood" "session_fork" (func $fork (param i64) (result i64)))
    (import "driftwood" "session_rewind" (func $rewind (param i64 i32) (result i32)))
    (import "driftwood" "prefill" (func $prefill (param i64) (result i64)))
    (import "driftwood" "generate" (func $generate (param i64 i32 i32) (result i64)))
    (import "driftwood" "next" (func $next (param i64 i32 i32) (result i64)))
    (import "driftwood" "stream_close" (func $stream_close (param i64) (result i32)))
    (import "driftwood" "cancel" (func $cancel (param i64) (result i32)))
    (import "driftwood" "receive" (func $receive (param i32 i32) (result i64)))
    (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32))))";

// Numbers that were never given, those of another kind, and those that are used up: -EBADF, and nothing changes.
TEST(HostileGuestTest, forged_handles_and_operation_ids_are_refused) {
    for (const char* number : {"-1", "0", "2", "77", "4294967297", "9223372036854775807", "-9223372036854775808"}) {
        const std::string id = std::string("(i64.const ") + number + ")";
        std::string stores;
        int slot = 0;
        const auto store = [&](const std::string& value) {
            stores += "(i32.store (i32.const " + std::to_string(4 * slot++) + ") " + value + ")";
        };
        for (const char* call : {"tokens", "fork", "prefill"})
            store("(i32.wrap_i64 (call $" + std::string(call) + id + "))");
        for (const char* call : {"close", "stream_close", "cancel"}) store("(call $" + std::string(call) + id + ")");
        store("(call $rewind " + id + " (i32.const 0))");
        store("(i32.wrap_i64 (call $generate " + id + " (i32.const 256) (i32.const 24)))");
        store("(i32.wrap_i64 (call $next " + id + " (i32.const 256) (i32.const 24)))");
        World world;
        const auto module = compile(world, "(module " + std::string(kOneSession) + R"((memory (export "memory") 1)
            (func (export "driftwood_start") (drop (call $open)) )" +
                                               stores + R"(
                (drop (call $reply (i32.const 0) (i32.const )" +
                                               std::to_string(4 * slot) + R"() (i32.const 1))))
            (func (export "driftwood_complete") (param i64 i64))))");
        const auto actor = Actor::create(world.context(), *module, {}).value();
        Heard heard;
        run(*actor, heard);
        EXPECT_EQ(actor->state(), Actor::State::kWaiting);
        ASSERT_EQ(heard.replies.size(), 4u * static_cast<size_t>(slot) + 1);
        for (int i = 0; i < slot; i++) {
            int32_t result = 0;
            std::memcpy(&result, heard.replies.data() + 4 * i, sizeof result);
            EXPECT_EQ(result, -DRIFTWOOD_EBADF) << "handle " << number << ", call " << i;
        }
        EXPECT_EQ(actor->sessions().size(), 1u);
    }
}

// A 2x2 product of ones is issued, then memory grows and the operands are overwritten, all in one turn: the operation
// runs after that turn, over what then lies there, at the same address; and no turn runs before it is done.
TEST(HostileGuestTest, memory_grows_while_a_tensor_operation_waits_for_the_device) {
    World world;
    const auto module = compile(world, R"((module
        (import "driftwood" "gemm" (func $gemm (param i32 i32) (result i64)))
        (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\00\10\00\00\00\11\00\00\00\12\00\00")  ;; a, b, c
        (data (i32.const 12) "\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00")
        (func $fill (param $at i32) (param $value f32)
            (f32.store (local.get $at) (local.get $value)) (f32.store offset=4 (local.get $at) (local.get $value))
            (f32.store offset=8 (local.get $at) (local.get $value))
            (f32.store offset=12 (local.get $at) (local.get $value)))
        (func (export "driftwood_start")
            (call $fill (i32.const 0x1000) (f32.const 1)) (call $fill (i32.const 0x1100) (f32.const 1))
            (if (i64.le_s (call $gemm (i32.const 0) (i32.const 36)) (i64.const 0)) (then (unreachable)))
            (if (i32.ne (memory.grow (i32.const 2000)) (i32.const 1)) (then (unreachable)))
            (call $fill (i32.const 0x1000) (f32.const 3)))
        (func (export "driftwood_complete") (param $op i64) (param $status i64)
            (i64.store (i32.const 0x1220) (local.get $status))
            (drop (call $reply (i32.const 0x1200) (i32.const 40) (i32.const 1))))))");
    const auto actor = Actor::create(world.context(), *module, {}).value();
    const uint8_t* base = actor->instance().memory().base();
    EXPECT_EQ(static_cast<int>(actor->step().kind), static_cast<int>(Step::Kind::kTurn));
    EXPECT_EQ(actor->instance().memory().size(), 2001u * 65536);
    EXPECT_EQ(static_cast<int>(actor->step().kind), static_cast<int>(Step::Kind::kTensor));
    const Step last = actor->step();
    ASSERT_EQ(last.effects.size(), 1u) << (last.error ? last.error->message : "");
    float c[4];
    int64_t status = -1;
    std::memcpy(c, last.effects[0].bytes.data(), sizeof c);
    std::memcpy(&status, last.effects[0].bytes.data() + 32, sizeof status);
    EXPECT_EQ(status, 0);
    for (const float value : c) EXPECT_EQ(value, 6.0F);  // 3 * 1 + 3 * 1
    EXPECT_EQ(actor->instance().memory().base(), base);
}

// Lines without end, lines without newline, replies without end: a turn's effects are bounded, whatever it prints.
TEST(HostileGuestTest, output_without_end_is_bounded) {
    const std::string_view bodies[] = {
        "(drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 60000)))",
        "(drop (call $log (i32.const 1) (i32.const 100) (i32.const 50000)))",
        "(drop (call $reply (i32.const 100) (i32.const 50000) (i32.const 0)))",
        "(drop (call $log (i32.const 1) (i32.const 100) (i32.const 0)))",
    };
    for (const std::string_view body : bodies) {
        for (const char* text : {"x", "\\0a"}) {
            World world;
            const auto module = compile(world, R"((module
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (import "driftwood" "log" (func $log (param i32 i32 i32) (result i32)))
                (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
                (memory (export "memory") 1) (data (i32.const 0) "\64\00\00\00\50\c3\00\00")
                (data (i32.const 50) ")" + std::string(text) +
                                                   R"(")
                (func (export "driftwood_start")
                    (memory.fill (i32.const 100) (i32.load8_u (i32.const 50)) (i32.const 50000))
                    (loop $l )" + std::string(body) +
                                                   R"( (br $l)))
                (func (export "driftwood_complete") (param i64 i64))))");
            const auto actor =
                Actor::create(world.context(), *module, {.limits = {.turn_deadline_ms = 300}, .wasi = {}}).value();
            const Step step = actor->step();
            ASSERT_TRUE(step.error.has_value());
            EXPECT_EQ(step.error->code, ErrorCode::kDeadline);
            size_t bytes = 0;
            for (const Effect& effect : step.effects) bytes += effect.bytes.size();
            EXPECT_LE(step.effects.size(), kMaxEffectsPerTurn);
            EXPECT_LE(bytes, kMaxEffectBytesPerTurn);
        }
    }
}

// A panic message without a newline, and then the trap: people see both.
TEST(HostileGuestTest, what_a_guest_wrote_before_it_failed_is_not_lost) {
    const auto wat = [](const char* where, const char* end) {
        return R"((module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\0c\00\00\00") (data (i32.const 16) "out of\nsorts")
            (func $fail (export ")" +
               std::string(where) + R"(")
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 100))) )" +
               end + ")" + (std::string_view(where) == "_initialize" ? R"((func (export "driftwood_start")))" : "") +
               R"((func (export "driftwood_complete") (param i64 i64))))";
    };
    for (const char* end : {"(unreachable)", "(call $exit (i32.const 3))"}) {
        World world;
        const auto module = compile(world, wat("driftwood_start", end));
        const auto actor = Actor::create(world.context(), *module, {}).value();
        Heard heard;
        run(*actor, heard);
        EXPECT_EQ(heard.logs, "out ofsorts");  // two lines
    }
    World world;
    const auto module = compile(world, wat("_initialize", "(unreachable)"));
    const auto unborn = Actor::create(world.context(), *module, {});
    ASSERT_FALSE(unborn.ok());
    EXPECT_NE(unborn.error().message.find("guest: out of\n  guest: sorts"), std::string::npos)
        << unborn.error().message;
}

}  // namespace
}  // namespace driftwood::actor
