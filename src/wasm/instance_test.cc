#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>

#include "wasm/test_held.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

bool says(const Error& failure, std::string_view part) { return failure.message.find(part) != std::string::npos; }

TEST(Instance, the_guest_and_the_region_are_the_same_bytes) {
    TestGuest guest(guest_wat(R"(
        (func (export "write") (i64.store (i32.const 4096) (i64.const 0x1122334455667788)))
        (func (export "copy") (i32.store (i32.const 8) (i32.load (i32.const 40000)))))"));
    memory::Region& memory = guest.instance->memory();
    EXPECT_EQ(memory.size(), 65536u);
    ASSERT_TRUE(guest.instance->call("write").ok());
    EXPECT_EQ(guest.read<uint64_t>(4096), 0x1122334455667788u);
    memory.base()[40000] = 42;
    ASSERT_TRUE(guest.instance->call("copy").ok());
    EXPECT_EQ(guest.read<uint32_t>(8), 42u);
}

TEST(Instance, a_newborn_sees_its_data_segments_and_owns_them) {
    const std::string wat = guest_wat(R"(
        (data (i32.const 3) "abc") (data (i32.const 4) "XY") (data (i32.const 3000000) "far away")
        (func (export "spoil") (i32.store8 (i32.const 3) (i32.const 63))))",
                                      R"((memory (export "memory") 64))");
    TestGuest guest(wat);
    const auto text = [](Instance& instance, uint32_t offset, uint32_t length) {
        const auto bytes = instance.range({offset, length}).value();
        return std::string(bytes.begin(), bytes.end());
    };
    EXPECT_EQ(text(*guest.instance, 2, 5), std::string("\0aXY\0", 5));  // the later segment wins
    EXPECT_EQ(text(*guest.instance, 3000000, 8), "far away");
    ASSERT_TRUE(guest.instance->call("spoil").ok());
    EXPECT_EQ(text(*guest.instance, 3, 1), "?");
    const auto sibling = Instance::create(*guest.module, *guest.host, {}, {}).value();
    EXPECT_EQ(text(*sibling, 3, 1), "a");
}

TEST(Instance, memory_of_a_living_guest_forks_and_neither_branch_sees_the_others_writes) {
    TestGuest guest(guest_wat(R"((data (i32.const 3) "abc")
        (func (export "write") (i32.store8 (i32.const 3) (i32.const 63)) (i32.store8 (i32.const 70000) (i32.const 64)))
        (func (export "more") (drop (memory.grow (i32.const 1))) (i32.store8 (i32.const 140000) (i32.const 65))
                              (i32.store8 (i32.const 70000) (i32.const 66))))",
                              R"((memory (export "memory") 2))"));
    memory::Region& memory = guest.instance->memory();
    ASSERT_TRUE(guest.instance->call("write").ok());
    memory::Region branch = memory.fork().value();
    EXPECT_EQ(guest.instance->guest_base(), memory.base());
    EXPECT_EQ(std::string(branch.base() + 3, branch.base() + 6), "?bc");
    ASSERT_TRUE(guest.instance->call("more").ok());
    EXPECT_EQ(branch.size(), 2 * 65536u);
    EXPECT_EQ(branch.base()[70000], 64);
    branch.base()[70001] = 7;
    branch.base()[3] = 8;
    EXPECT_EQ(guest.read<uint8_t>(70000), 66);
    EXPECT_EQ(guest.read<uint8_t>(70001), 0);
    EXPECT_EQ(guest.read<uint8_t>(140000), 65);
    EXPECT_EQ(guest.read<uint8_t>(3), 63);
}

TEST(Instance, birth_runs_start_then_initialize_once) {
    TestGuest guest(R"((module (memory (export "memory") 1) (global $n (mut i32) (i32.const 1))
        (func $digit (param i32)
            (global.set $n (i32.add (i32.mul (global.get $n) (i32.const 10)) (local.get 0)))
            (i32.store (i32.const 0) (global.get $n)))
        (func $first (call $digit (i32.const 2))) (start $first)
        (func (export "_initialize") (call $digit (i32.const 3)))
        (func (export "driftwood_start") (call $digit (i32.const 4)))
        (func (export "driftwood_complete") (param i64 i64) (call $digit (i32.const 5)))))");
    EXPECT_EQ(guest.read<uint32_t>(0), 123u);
    ASSERT_TRUE(guest.instance->start().ok());
    ASSERT_TRUE(guest.instance->complete(1, 0).ok());
    EXPECT_EQ(guest.read<uint32_t>(0), 12345u);
}

TEST(Instance, complete_hands_over_operation_and_status) {
    TestGuest guest(R"((module (memory (export "memory") 1) (func (export "driftwood_start"))
        (func (export "driftwood_complete") (param i64 i64)
            (i64.store (i32.const 0) (local.get 0)) (i64.store (i32.const 8) (local.get 1)))))");
    ASSERT_TRUE(guest.instance->complete(INT64_MAX, -125).ok());
    EXPECT_EQ(guest.read<int64_t>(0), INT64_MAX);
    EXPECT_EQ(guest.read<int64_t>(8), -125);
}

TEST(Instance, memory_grows_in_place_up_to_its_limit) {
    TestGuest guest(guest_wat(R"(
        (func (export "grow") (i32.store (i32.const 0) (memory.grow (i32.const 3))))
        (func (export "too_much") (i32.store (i32.const 0) (memory.grow (i32.const 60000))))
        (func (export "touch") (i32.store8 (i32.const 262143) (i32.const 9))))",
                              R"((memory (export "memory") 1))"),
                    {.memory_bytes = 5 * 65536});
    memory::Region& memory = guest.instance->memory();
    const uint8_t* base = memory.base();
    ASSERT_TRUE(guest.instance->call("grow").ok());
    EXPECT_EQ(guest.read<int32_t>(0), 1);
    EXPECT_EQ(memory.size(), 4 * 65536u);
    EXPECT_EQ(memory.base(), base);
    ASSERT_TRUE(guest.instance->call("touch").ok());
    EXPECT_EQ(memory.base()[262143], 9);
    ASSERT_TRUE(guest.instance->call("grow").ok());  // 7 pages: beyond the limit
    EXPECT_EQ(guest.read<int32_t>(0), -1);
    ASSERT_TRUE(guest.instance->call("too_much").ok());
    EXPECT_EQ(guest.read<int32_t>(0), -1);
    EXPECT_EQ(memory.size(), 4 * 65536u);
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
// A guest must not be able to tell how much memory the machine has left: such a turn fails as a whole.
TEST(Instance, growth_that_the_system_refuses_fails_the_turn) {
    TestGuest guest(guest_wat(R"((func (export "grow") (i32.store (i32.const 0) (memory.grow (i32.const 15)))))"));
    ASSERT_TRUE(guest.instance->start().ok());  // Wasmtime gives the thread its signal stack now, not below
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_DATA, &before), 0);
    rlimit none = before;
    none.rlim_cur = 1;  // no more writable pages for this process (0 would mean no check)
    ASSERT_EQ(setrlimit(RLIMIT_DATA, &none), 0);
    const auto result = guest.instance->call("grow");
    ASSERT_EQ(setrlimit(RLIMIT_DATA, &before), 0);
    ASSERT_FALSE(result.ok());
    EXPECT_TRUE(says(result.error(), "[memory.grow]")) << result.error().message;
    EXPECT_FALSE(guest.instance->start().ok());
}
#endif

TEST(Instance, a_module_that_begins_beyond_the_limit_is_refused) {
    const auto module = compile_wat(guest_wat("", R"((memory (export "memory") 10))")).value();
    TestHost host;
    const auto instance = Instance::create(*module, host, {.memory_bytes = 65536}, {});
    ASSERT_FALSE(instance.ok());
    EXPECT_EQ(instance.error().code, ErrorCode::kLimit);
    const auto tables = compile_wat(guest_wat("(table 100 funcref)")).value();
    EXPECT_EQ(Instance::create(*tables, host, {.table_elements = 99}, {}).error().code, ErrorCode::kLimit);
    EXPECT_TRUE(Instance::create(*tables, host, {.table_elements = 100}, {}).ok());
}

TEST(Instance, an_endless_turn_is_stopped_by_its_deadline) {
    constexpr uint32_t kDeadlineMs = 200;
    TestGuest guest(guest_wat(R"((func $spin (loop $l (br $l))) (func (export "run") (call $spin)))"),
                    {.turn_deadline_ms = kDeadlineMs});
    const auto begin = std::chrono::steady_clock::now();
    const auto result = guest.instance->call("run");
    const auto took = std::chrono::steady_clock::now() - begin;
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kDeadline);
    EXPECT_TRUE(says(result.error(), "run: the turn took longer than its 200 ms; at spin < "))
        << result.error().message;
    EXPECT_GE(took, std::chrono::milliseconds(kDeadlineMs));
    EXPECT_LE(took, std::chrono::milliseconds(2 * kDeadlineMs));
    EXPECT_EQ(guest.instance->start().error().code, ErrorCode::kDeadline);  // dead, and says why
}

TEST(Instance, an_endless_birth_is_stopped_by_the_deadline) {
    const auto module = compile_wat(guest_wat(R"((func $f (loop $l (br $l))) (start $f))")).value();
    TestHost host;
    const auto instance = Instance::create(*module, host, {.turn_deadline_ms = 20}, {});
    ASSERT_FALSE(instance.ok());
    EXPECT_EQ(instance.error().code, ErrorCode::kDeadline);
}

TEST(Instance, a_trap_ends_the_instance_and_names_the_functions) {
    TestGuest guest(guest_wat(R"(
        (func $inner (drop (i32.div_s (i32.const 1) (i32.const 0))))
        (func $outer (call $inner))
        (func (export "run") (call $outer)))"));
    const auto result = guest.instance->call("run");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kTrap);
    EXPECT_TRUE(says(result.error(), "[wasm.turn] run: wasm trap: integer divide by zero; at inner < outer < "))
        << result.error().message;
    EXPECT_EQ(guest.instance->start().error().message, result.error().message);
}

TEST(Instance, faults_of_the_guest_are_traps) {
    const std::pair<std::string_view, std::string_view> cases[] = {
        {"(drop (i32.load (i32.const 65533)))", "out of bounds memory access"},
        {"(drop (i32.load offset=4294967295 (i32.const -1)))", "out of bounds memory access"},
        {"(i32.store8 offset=0xffff0000 (i32.const 0xffff) (i32.const 1))", "out of bounds memory access"},
        {"(memory.fill (i32.const 65530) (i32.const 0) (i32.const 7))", "out of bounds memory access"},
        {"(unreachable)", "unreachable"},
        {"(drop (i32.trunc_f32_s (f32.const nan)))", "invalid conversion to integer"},
        {"(call_indirect (i32.const 0))", "uninitialized element"},
        {"(call_indirect (i32.const 9))", "undefined element"},
    };
    for (const auto& [code, message] : cases) {
        TestGuest guest(guest_wat("(table 1 funcref) (func (export \"run\") " + std::string(code) + ")"));
        const auto result = guest.instance->call("run");
        ASSERT_FALSE(result.ok()) << code;
        EXPECT_EQ(result.error().code, ErrorCode::kTrap) << code;
        EXPECT_TRUE(says(result.error(), message)) << code << ": " << result.error().message;
    }
}

TEST(Instance, deep_recursion_traps_and_the_next_guest_runs) {
    TestGuest guest(guest_wat(R"((func $down (call $down) (call $down)) (func (export "run") (call $down)))"));
    const auto result = guest.instance->call("run");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kTrap);
    EXPECT_TRUE(says(result.error(), "call stack exhausted")) << result.error().message;
    TestGuest other(guest_wat(R"((func (export "run")))"));
    EXPECT_TRUE(other.instance->call("run").ok());
}

TEST(Instance, call_refuses_what_is_not_exported_without_arguments) {
    TestGuest guest(guest_wat(R"((func (export "one") (param i32)))"));
    EXPECT_EQ(guest.instance->call("none").error().code, ErrorCode::kNotFound);
    EXPECT_EQ(guest.instance->call("one").error().code, ErrorCode::kNotFound);
    EXPECT_EQ(guest.instance->call("memory").error().code, ErrorCode::kNotFound);
    EXPECT_TRUE(guest.instance->call("driftwood_start").ok());
}

// The payload and sign of a NaN differ between processors and compilers; a guest must not be able to tell.
TEST(Instance, nans_are_canonical) {
    const std::string wat = guest_wat(R"(
        (func (export "run") (local $inf f64) (local $n f32)
            (local.set $inf (f64.load (i32.const 64)))
            (f64.store (i32.const 0) (f64.sub (local.get $inf) (local.get $inf)))
            (local.set $n (f32.load (i32.const 72)))
            (f32.store (i32.const 8) (f32.add (local.get $n) (f32.const 1)))
            (f32.store (i32.const 12) (f32.sqrt (f32.const -4)))
            (v128.store (i32.const 16) (f32x4.div (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0))))
        (data (i32.const 64) "\00\00\00\00\00\00\f0\7f") (data (i32.const 72) "\cd\ab\b0\ff"))");
    for (int i = 0; i < 2; i++) {
        TestGuest guest(wat);
        ASSERT_TRUE(guest.instance->call("run").ok());
        EXPECT_EQ(guest.read<uint64_t>(0), 0x7ff8000000000000u);
        EXPECT_EQ(guest.read<uint32_t>(8), 0x7fc00000u);
        EXPECT_EQ(guest.read<uint32_t>(12), 0x7fc00000u);
        for (uint32_t lane = 0; lane < 4; lane++) EXPECT_EQ(guest.read<uint32_t>(16 + 4 * lane), 0x7fc00000u);
    }
}

#if defined(__x86_64__)
TEST(Instance, a_turn_runs_in_the_default_floating_point_environment) {
    TestGuest guest(guest_wat(R"((func (export "run")
        (f32.store (i32.const 0) (f32.mul (f32.load (i32.const 4)) (f32.const 0.5))))
        (data (i32.const 4) "\02\00\00\00"))"));  // a subnormal
    constexpr unsigned kFlushToZero = 0x8040;
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | kFlushToZero);
    const auto result = guest.instance->call("run");
    const unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(guest.read<uint32_t>(0), 1u);
    EXPECT_EQ(after & kFlushToZero, kFlushToZero);  // and the caller's comes back
}
#endif

TEST(Instance, five_hundred_instances_leave_no_mappings_behind) {
    const auto module = compile_wat(guest_wat(R"((data (i32.const 5) "x") (data (i32.const 4000000) "y"))",
                                              R"((memory (export "memory") 100))"))
                            .value();
    TestHost host;
    const Held left = left_by_each(3, [&] {
        std::vector<std::unique_ptr<Instance>> alive;
        for (int i = 0; i < 500; i++) {
            alive.push_back(Instance::create(*module, host, {}, {}).value());
            EXPECT_TRUE(alive.back()->start().ok());
        }
    });
    EXPECT_LE(left.mappings, 0);  // alive at once, they have over 1000
}

}  // namespace
}  // namespace driftwood::wasm
