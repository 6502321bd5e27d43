// Why a turn ended, as the guest's own functions, files and lines.
#include <gtest/gtest.h>

#include <random>

#include "embedded_trap_guest.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

Trap trap_of(Instance& instance) {
    const auto result = instance.call("run");
    EXPECT_FALSE(result.ok());
    return instance.trap().value_or(Trap{});
}

std::vector<std::string> names(const Trap& trap) {
    std::vector<std::string> names;
    for (const TrapFrame& frame : trap.frames) names.push_back(frame.function);
    return names;
}

TEST(Trap, says_its_kind) {
    const std::pair<std::string_view, TrapKind> cases[] = {
        {"(unreachable)", TrapKind::kUnreachable},
        {"(drop (i32.load (i32.const 65533)))", TrapKind::kMemoryBounds},
        {"(drop (table.get (i32.const 9)))", TrapKind::kTableBounds},
        {"(call_indirect (i32.const 0))", TrapKind::kNullCall},
        {"(call_indirect (result i64) (i32.const 1)) drop", TrapKind::kBadSignature},
        {"(drop (i32.div_s (i32.const 1) (i32.const 0)))", TrapKind::kDivideByZero},
        {"(drop (i32.div_s (i32.const -2147483648) (i32.const -1)))", TrapKind::kIntegerOverflow},
        {"(drop (i32.trunc_f32_s (f32.const nan)))", TrapKind::kBadConversion},
        {"(call $down)", TrapKind::kStackOverflow},
        {"(loop $l (br $l))", TrapKind::kDeadline},
    };
    for (const auto& [code, kind] : cases) {
        TestGuest guest(guest_wat("(table 2 funcref) (elem (i32.const 1) $nothing) (func $nothing)"
                                  "(func $down (call $down) (call $down)) (func (export \"run\") " +
                                  std::string(code) + ")"),
                        {.turn_deadline_ms = 50});
        EXPECT_FALSE(guest.instance->trap().has_value());
        EXPECT_EQ(static_cast<int>(trap_of(*guest.instance).kind), static_cast<int>(kind)) << code;
        ASSERT_TRUE(guest.instance->trap().has_value()) << code;
        EXPECT_FALSE(guest.instance->trap()->frames.empty()) << code;
    }
}

TEST(Trap, names_functions_of_c_plus_plus_and_rust_as_their_programmers_do) {
    TestGuest guest(guest_wat(R"(
        (func $_ZN6ledger6divideEii (unreachable))
        (func $_ZN4core3fmt5write17h0123456789abcdefE (call $_ZN6ledger6divideEii))
        (func (call $_ZN4core3fmt5write17h0123456789abcdefE))
        (func $plain (export "run") (call 2)))"));
    EXPECT_EQ(names(trap_of(*guest.instance)),
              (std::vector<std::string>{"ledger::divide(int, int)", "core::fmt::write", "function 2", "plain"}));
}

TEST(Trap, names_files_and_lines_where_the_guest_has_debug_information) {
    const auto bytes = embedded::trap_guest_wasm();
    TestHost host;
    const auto module = Module::compile(test_runtime(), {bytes.begin(), bytes.end()}).value();
    EXPECT_TRUE(module->facts().has_lines);
    const auto instance = Instance::create(*module, host, {}, {}).value();
    const auto result = instance->call("settle");
    ASSERT_FALSE(result.ok());
    ASSERT_TRUE(instance->trap().has_value());
    const auto& frames = instance->trap()->frames;
    ASSERT_EQ(frames.size(), 3u) << result.error().message;
    EXPECT_EQ(frames[0].function, "ledger::divide(int, int)");
    EXPECT_EQ(frames[1].function, "ledger::share(int)");  // inlined
    EXPECT_EQ(frames[2].function, "settle");
    for (const TrapFrame& frame : frames) EXPECT_TRUE(frame.file.ends_with("trap_guest.cc")) << frame.file;
    EXPECT_EQ(frames[0].line, 9u);
    EXPECT_EQ(frames[1].line, 13u);
    EXPECT_EQ(frames[2].line, 22u);
    EXPECT_NE(result.error().message.find("integer divide by zero; at ledger::divide(int, int) ("), std::string::npos);
    EXPECT_NE(result.error().message.find("trap_guest.cc:9) < "), std::string::npos) << result.error().message;
}

// The same module, its debug information overwritten: wrong names at worst.
TEST(Trap, damaged_debug_information_is_no_danger) {
    const auto good = embedded::trap_guest_wasm();
    const std::string_view text(reinterpret_cast<const char*>(good.data()), good.size());
    const size_t debug = text.find(".debug_");
    ASSERT_NE(debug, std::string_view::npos);
    std::mt19937 random(1);
    TestHost host;
    int traps = 0;
    for (int round = 0; round < 300; round++) {
        std::vector<uint8_t> bytes(good.begin(), good.end());
        for (int i = 0; i < 1 + round % 20; i++) {
            bytes[debug + random() % (bytes.size() - debug)] = static_cast<uint8_t>(random());
        }
        const auto module = Module::compile(test_runtime(), bytes);
        if (!module.ok()) continue;  // a section's length was hit
        const auto instance = Instance::create(**module, host, {}, {});
        if (!instance.ok() || !(*module)->facts().has_lines) continue;
        const auto result = (*instance)->call("settle");
        ASSERT_FALSE(result.ok());
        traps += result.error().code == ErrorCode::kTrap ? 1 : 0;
    }
    EXPECT_GT(traps, 100);
}

// Names are the guest's to choose: neither their length nor what they stand for may cost the runtime much.
TEST(Trap, hostile_names_are_cut) {
    // f<B<A, A>, B<that, that>, …>: each argument is the one before it twice, so that what the name stands for doubles.
    std::string bomb = "_Z1fI1BI1AS1_E";
    for (int i = 2; i < 35; i++) {
        const std::string before = "S" + std::string(1, static_cast<char>(i < 10 ? '0' + i : 'A' + i - 10)) + "_";
        bomb += "S0_I" + before + before + "E";
    }
    bomb += "Evv";
    const std::string cases[] = {std::string(90'000, 'n'), bomb, "_R" + std::string(2000, 'I'),
                                 "_ZN" + std::string(3000, '9')};
    for (const std::string& name : cases) {
        TestGuest guest(guest_wat("(func $" + name + " (unreachable)) (func (export \"run\") (call $" + name + "))"));
        const auto result = guest.instance->call("run");
        ASSERT_FALSE(result.ok());
        ASSERT_TRUE(guest.instance->trap().has_value());
        for (const TrapFrame& frame : guest.instance->trap()->frames) EXPECT_LE(frame.function.size(), 256u);
        EXPECT_LE(result.error().message.size(), 16u * 300);
    }
}

}  // namespace
}  // namespace driftwood::wasm
