// Guests that mean harm, each written for one kind of it: what they get is an error of their own, in bounded time.
#include <gtest/gtest.h>

#include <chrono>

#include "wasm/test_held.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

using std::chrono::milliseconds;

bool says(const Error& failure, std::string_view part) { return failure.message.find(part) != std::string::npos; }

#if defined(__SANITIZE_ADDRESS__)
constexpr int kSlowdown = 4;  // of the host's part of the work
#else
constexpr int kSlowdown = 1;
#endif

struct Outcome {
    std::optional<Error> error;
    milliseconds took{};
};

// The export "run" of such a guest, and how long it took to be stopped.
Outcome run(TestGuest& guest) {
    const auto begin = std::chrono::steady_clock::now();
    const auto result = guest.instance->call("run");
    const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
    return {result.ok() ? std::nullopt : std::optional(result.error()), took};
}

// Every way of not coming back: a turn is over within twice its deadline.
TEST(Hostile, a_turn_without_end_is_stopped_within_twice_its_deadline) {
    const std::pair<std::string_view, std::string_view> cases[] = {
        {"loop", "(func (export \"run\") (loop $l (br $l)))"},
        {"tail calls", "(func $f (return_call $g)) (func $g (return_call $f)) (func (export \"run\") (call $f))"},
        {"indirect tail calls",
         "(table 1 funcref) (elem (i32.const 0) $f) (func $f (return_call_indirect (i32.const 0)))"
         "(func (export \"run\") (call $f))"},
        {"exponential recursion",
         "(func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))"
         "(call $f (i32.sub (local.get 0) (i32.const 1)))))) (func (export \"run\") (call $f (i32.const 60)))"},
        {"host calls",
         "(import \"driftwood\" \"now\" (func $now (result i64)))"
         "(func (export \"run\") (loop $l (drop (call $now)) (br $l)))"},
        {"output",
         "(import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))"
         "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func $y (result i32)))"
         "(func (export \"run\") (loop $l (drop (call $y)) (br $l)))"},
        {"growth", "(func (export \"run\") (loop $l (drop (memory.grow (i32.const 1))) (br $l)))"},
    };
    constexpr uint32_t kDeadlineMs = 200;
    for (const auto& [what, body] : cases) {
        TestGuest guest(guest_wat(body), {.turn_deadline_ms = kDeadlineMs});
        const Outcome outcome = run(guest);
        ASSERT_TRUE(outcome.error.has_value()) << what;
        EXPECT_EQ(outcome.error->code, ErrorCode::kDeadline) << what << ": " << outcome.error->message;
        EXPECT_LE(outcome.took, milliseconds(2 * kDeadlineMs * kSlowdown)) << what;
    }
}

// One instruction can move all of memory, and no clock is looked at inside it: what it can overrun its deadline by is
// one pass over as much memory as the actor may have. How long that takes here and now is measured first.
TEST(Hostile, bulk_operations_overrun_the_deadline_by_one_pass_over_memory_at_most) {
    const std::string cases[] = {
        "(memory.fill (i32.const 0) (i32.const 7) (i32.const 268435456))",
        "(memory.copy (i32.const 1) (i32.const 0) (i32.const 268435455))",
        "(table.fill $t (i32.const 0) (ref.null func) (i32.const 65536))",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 65535))",
    };
    constexpr uint32_t kDeadlineMs = 400;
    for (const std::string& code : cases) {
        const std::string wat = guest_wat("(table $t 65536 funcref) (func (export \"once\") " + code +
                                              ") (func (export \"run\") (loop $l " + code + " (br $l)))",
                                          "(memory (export \"memory\") 4096)");
        TestGuest patient(wat, {.turn_deadline_ms = 600'000});
        const auto begin = std::chrono::steady_clock::now();
        ASSERT_TRUE(patient.instance->call("once").ok());
        const auto pass = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
        TestGuest guest(wat, {.turn_deadline_ms = kDeadlineMs});
        const Outcome outcome = run(guest);
        ASSERT_TRUE(outcome.error.has_value()) << code;
        EXPECT_EQ(outcome.error->code, ErrorCode::kDeadline) << code << ": " << outcome.error->message;
        EXPECT_LE(outcome.took, milliseconds(2 * kDeadlineMs * kSlowdown) + 3 * pass) << code;
    }
}

TEST(Hostile, memory_grown_to_its_limit_ends_there) {
    TestGuest guest(guest_wat(R"(
        (func (export "run") (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 5))
            (i32.store (i32.const 0) (memory.size)))
        (func (export "beyond") (i32.store8 (i32.mul (memory.size) (i32.const 65536)) (i32.const 5))))",
                              R"((memory (export "memory") 1))"),
                    {.memory_bytes = 40 * 65536});
    EXPECT_FALSE(run(guest).error.has_value());
    EXPECT_EQ(guest.read<uint32_t>(0), 40u);
    EXPECT_EQ(guest.instance->memory().size(), 40u * 65536);
    EXPECT_TRUE(says(guest.instance->call("beyond").error(), "out of bounds memory access"));
}

TEST(Hostile, all_four_gigabytes_can_be_asked_for_and_end_at_the_limit) {
    TestGuest guest(guest_wat(R"((func (export "run")
        (i32.store (i32.const 0) (memory.grow (i32.const 65535)))
        (i32.store (i32.const 4) (memory.grow (i32.const 65536)))
        (i32.store (i32.const 8) (memory.grow (i32.const -1)))))",
                              R"((memory (export "memory") 1))"),
                    {.memory_bytes = UINT64_MAX});
    EXPECT_FALSE(run(guest).error.has_value());
    EXPECT_EQ(guest.read<int32_t>(0), 1);  // committed, not touched
    EXPECT_EQ(guest.read<int32_t>(4), -1);
    EXPECT_EQ(guest.read<int32_t>(8), -1);
    EXPECT_EQ(guest.instance->memory().size(), uint64_t{4} << 30);
}

TEST(Hostile, tables_end_at_their_limit) {
    TestGuest guest(guest_wat(R"((table $t 1 funcref)
        (func (export "run")
            (i32.store (i32.const 0) (table.grow $t (ref.null func) (i32.const 99)))
            (i32.store (i32.const 4) (table.grow $t (ref.null func) (i32.const 1)))
            (i32.store (i32.const 8) (table.grow $t (ref.null func) (i32.const -1)))
            (i32.store (i32.const 12) (table.size $t))))"),
                    {.table_elements = 100});
    EXPECT_FALSE(run(guest).error.has_value());
    EXPECT_EQ(guest.read<int32_t>(0), 1);
    EXPECT_EQ(guest.read<int32_t>(4), -1);
    EXPECT_EQ(guest.read<int32_t>(8), -1);
    EXPECT_EQ(guest.read<int32_t>(12), 100);
}

TEST(Hostile, a_trap_in_start_is_a_failed_birth) {
    for (const std::string_view code : {"(unreachable)", "(call $f)", "(i32.store (i32.const -1) (i32.const 0))"}) {
        const auto module = compile_wat(guest_wat("(func $f " + std::string(code) + " (call $f)) (start $f)")).value();
        TestHost host;
        const auto instance = Instance::create(*module, host, {}, {});
        ASSERT_FALSE(instance.ok()) << code;
        EXPECT_EQ(instance.error().code, ErrorCode::kTrap) << code;
        EXPECT_TRUE(says(instance.error(), "at f")) << instance.error().message;
    }
}

TEST(Hostile, frames_of_any_size_stay_on_the_guests_stack) {
    // 40,000 locals of 16 bytes that are alive across the call: 640 kB a frame.
    std::string body = "(func $f ";
    for (int i = 0; i < 4000; i++) body += "(local v128)";
    for (int i = 0; i < 4000; i++) {
        body += "(local.set " + std::to_string(i) + " (v128.load (i32.const " + std::to_string(16 * (i % 4000)) + ")))";
    }
    body += "(call $f)";
    for (int i = 0; i < 4000; i++)
        body +=
            "(v128.store (i32.const " + std::to_string(16 * (i % 4000)) + ") (local.get " + std::to_string(i) + "))";
    TestGuest guest(guest_wat(body + ") (func (export \"run\") (call $f))"));
    const Outcome outcome = run(guest);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_TRUE(says(*outcome.error, "call stack exhausted")) << outcome.error->message;
}

void append_leb(std::vector<uint8_t>& out, size_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
}

// The module of guest_wat(""), and a function with this body beside its own.
std::vector<uint8_t> with_body(std::span<const uint8_t> code) {
    const std::vector<uint8_t> good = from_wat(guest_wat("(func (nop))"));
    std::vector<uint8_t> out(good.begin(), good.begin() + 8);
    for (size_t at = 8; at < good.size();) {  // every section of the small original is under 128 bytes
        const uint8_t id = good[at];
        const size_t end = at + 2 + good[at + 1];
        if (id == 10) {
            std::vector<uint8_t> section = {3};
            append_leb(section, code.size() + 1);
            section.push_back(0);  // no locals
            section.insert(section.end(), code.begin(), code.end());
            section.insert(section.end(), {2, 0, 0x0b, 2, 0, 0x0b});
            out.push_back(id);
            append_leb(out, section.size());
            out.insert(out.end(), section.begin(), section.end());
        } else {
            out.insert(out.end(), good.begin() + static_cast<ptrdiff_t>(at),
                       good.begin() + static_cast<ptrdiff_t>(end));
        }
        at = end;
    }
    return out;
}

constexpr uint8_t kBlock = 0x02;
constexpr uint8_t kLoop = 0x03;

std::vector<uint8_t> nested(uint8_t opener, size_t depth) {
    std::vector<uint8_t> code;
    for (size_t i = 0; i < depth; i++) code.insert(code.end(), {opener, 0x40});
    code.insert(code.end(), depth + 1, 0x0b);
    return with_body(code);
}

// What recursive descent would die of.
TEST(Hostile, deeply_nested_code_is_compiled) {
    EXPECT_TRUE(Module::compile(test_runtime(), nested(kBlock, 20'000)).ok());
    std::vector<uint8_t> sums;  // i32.const 1, (i32.const 1, i32.add)*, drop: an expression as deep as it is long
    sums.insert(sums.end(), {0x41, 1});
    for (int i = 0; i < 20'000; i++) sums.insert(sums.end(), {0x41, 1, 0x6a});
    sums.insert(sums.end(), {0x1a, 0x0b});
    EXPECT_TRUE(Module::compile(test_runtime(), with_body(sums)).ok());
}

// The engine compiles loops in time that grows with the square of their depth.
TEST(Hostile, loops_nested_without_measure_are_refused_before_they_are_compiled) {
    EXPECT_TRUE(Module::compile(test_runtime(), nested(kLoop, 250)).ok());
    const auto refused = Module::compile(test_runtime(), nested(kLoop, 1'000'000));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_TRUE(says(refused.error(), "nested loops: 1000000 loops inside each other")) << refused.error().message;
}

// Born, run, failed, and gone: nothing of ten thousand is left.
TEST(Hostile, ten_thousand_instances_leave_nothing_behind) {
    const auto module = compile_wat(guest_wat(R"(
        (table 10 funcref) (data (i32.const 5) "x") (data (i32.const 4000000) "y")
        (func (export "run") (memory.fill (i32.const 0) (i32.const 1) (i32.const 100000)) (unreachable)))",
                                              R"((memory (export "memory") 100))"))
                            .value();
    TestHost host;
    const Held left = left_by_each(4, [&] {
        for (int i = 0; i < 2500; i++) {
            const auto instance = Instance::create(*module, host, {}, {}).value();
            EXPECT_TRUE(instance->start().ok());
            EXPECT_FALSE(instance->call("run").ok());
        }
    });
    EXPECT_LE(left.mappings, 0);
    EXPECT_LE(left.descriptors, 0);
    EXPECT_LE(left.heap_bytes, 2500);  // a byte each
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_LE(left.resident_bytes, 2500 * 64);
#endif
}

}  // namespace
}  // namespace driftwood::wasm
