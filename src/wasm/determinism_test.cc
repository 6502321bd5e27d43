// The same guest does the same, bit by bit: run twice, in two instances, under two runtimes, on a thread that somebody
// has put into another floating-point mode.
#include <gtest/gtest.h>

#include <cfenv>
#include <map>
#include <thread>

#include "file/test_directory.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

constexpr uint32_t kInputs = 256;     // 16 doubles, then 16 floats; see the data segments
constexpr uint32_t kResults = 65536;  // the second page on
constexpr uint32_t kResultBytes = 16;

// NaNs quiet and signalling, with payloads and signs, infinities, zeros, subnormals, and what rounding decides.
constexpr uint64_t kDoubles[16] = {0x7ff8000000000000, 0xfff8000000000000, 0x7ff8deadbeef0001, 0xfffc00000000beef,
                                   0x7ff0000000000001, 0xfff4000000001234, 0x7ff0000000000000, 0xfff0000000000000,
                                   0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x800fffffffffffff,
                                   0x3ff0000000000000, 0x3fb999999999999a, 0x7fefffffffffffff, 0xc000000000000001};
constexpr uint32_t kFloats[16] = {0x7fc00000, 0xffc00000, 0x7fc0beef, 0xffe01234, 0x7f800001, 0xffa00001,
                                  0x7f800000, 0xff800000, 0x00000000, 0x80000000, 0x00000001, 0x807fffff,
                                  0x3f800000, 0x3dcccccd, 0x7f7fffff, 0xc0000001};

template <class T>
std::string hex(const T& values) {
    std::string text;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&values);
    for (size_t i = 0; i < sizeof values; i++) {
        char piece[8];
        std::snprintf(piece, sizeof piece, "\\%02x", bytes[i]);
        text += piece;
    }
    return text;
}

// Every floating-point instruction that can make a NaN or round, over every pair of inputs.
std::string arithmetic(uint32_t& results) {
    struct Kind {
        std::string_view name;   // of instructions
        std::string_view load;   // a value from an address
        std::string_view store;  // a result
        uint32_t inputs, stride;
    };
    const Kind kinds[] = {{"f64", "f64.load", "f64.store", kInputs, 8},
                          {"f32", "f32.load", "f32.store", kInputs + 128, 4},
                          {"f64x2", "v128.load64_splat", "v128.store", kInputs, 8},
                          {"f32x4", "v128.load32_splat", "v128.store", kInputs + 128, 4}};
    std::string body;
    const auto store = [&](const Kind& kind, const std::string& value) {
        body += "(" + std::string(kind.store) + " (i32.const " + std::to_string(kResults + kResultBytes * results++) +
                ") " + value + ")\n";
    };
    const auto input = [](const Kind& kind, uint32_t i) {
        return "(" + std::string(kind.load) + " (i32.const " + std::to_string(kind.inputs + i * kind.stride) + "))";
    };
    for (const Kind& kind : kinds) {
        const std::string prefix = std::string(kind.name) + ".";
        for (uint32_t i = 0; i < 16; i++) {
            for (const char* op : {"sqrt", "ceil", "floor", "trunc", "nearest", "abs", "neg"}) {
                store(kind, "(" + prefix + op + " " + input(kind, i) + ")");
            }
            for (uint32_t j = 0; j < 16; j++) {
                for (const char* op : {"add", "sub", "mul", "div", "min", "max"}) {
                    store(kind, "(" + prefix + op + " " + input(kind, i) + " " + input(kind, j) + ")");
                }
            }
        }
    }
    for (uint32_t i = 0; i < 16; i++) {
        store(kinds[0], "(f64.promote_f32 " + input(kinds[1], i) + ")");
        store(kinds[1], "(f32.demote_f64 " + input(kinds[0], i) + ")");
        store(kinds[2], "(f64x2.promote_low_f32x4 " + input(kinds[3], i) + ")");
        store(kinds[3], "(f32x4.demote_f64x2_zero " + input(kinds[2], i) + ")");
        store(kinds[0], "(f64.convert_i64_s (i64.trunc_sat_f64_s " + input(kinds[0], i) + "))");
        store(kinds[1], "(f32.convert_i64_u (i64.trunc_sat_f32_u " + input(kinds[1], i) + "))");
        store(kinds[0], "(f64.copysign (f64.const 1) " + input(kinds[0], i) + ")");
    }
    return body;
}

// compute: all of the above. grow: until memory.grow fails, the number of successes in a global. dive: calls itself
// until the stack ends, the depth in a global and in memory.
std::string nasty() {
    uint32_t results = 0;
    std::string body = arithmetic(results);
    return guest_wat(
        "(global $grown (mut i32) (i32.const 0)) (global $depth (mut i64) (i64.const 0)) (global $nan (mut f32) "
        "(f32.const 0))"
        "(data (i32.const " +
            std::to_string(kInputs) + ") \"" + hex(kDoubles) +
            "\")"
            "(data (i32.const " +
            std::to_string(kInputs + 128) + ") \"" + hex(kFloats) +
            "\")"
            "(func (export \"compute\") " +
            body +
            "(global.set $nan (f32.div (f32.load (i32.const 384)) (f32.const 0))))"
            "(func (export \"grow\") (loop $more (if (i32.ne (memory.grow (i32.const 7)) (i32.const -1)) (then"
            "  (global.set $grown (i32.add (global.get $grown) (i32.const 1))) (br $more))))"
            "  (i32.store (i32.const 8) (global.get $grown)))"
            "(func $dive (export \"dive\") (local f64 f64 i64)"
            "  (global.set $depth (i64.add (global.get $depth) (i64.const 1)))"
            "  (i64.store (i32.const 16) (global.get $depth)) (call $dive) (call $dive))",
        "(memory (export \"memory\") 20)");
}

// Everything that an image would hold of the guest: its globals, and its memory by pages.
struct State {
    std::vector<uint8_t> memory;
    std::vector<uint8_t> rest;
    std::string error;
    bool operator==(const State&) const = default;
};

State state_of(Instance& instance) {
    const auto bytes = instance.memory().bytes();
    State state{.memory = {bytes.begin(), bytes.end()}, .rest = {}, .error = {}};
    const file::TestDirectory directory;
    file::SectionWriter image;
    file::Encoder encoder;
    if (const auto saved = instance.save(image, encoder); saved.ok()) state.rest = encoder.take();
    return state;
}

constexpr InstanceLimits kLimits = {.memory_bytes = 100 * 65536, .turn_deadline_ms = 60'000};

// After the computations, and after the trap that ends it.
std::vector<State> run(const Module& module) {
    TestHost host;
    const auto instance = Instance::create(module, host, kLimits, {}).value();
    std::vector<State> states;
    for (const char* step : {"compute", "grow"}) {
        EXPECT_TRUE(instance->call(step).ok()) << step;
        states.push_back(state_of(*instance));
        EXPECT_FALSE(states.back().rest.empty());
    }
    const auto dive = instance->call("dive");
    EXPECT_FALSE(dive.ok());
    states.push_back(state_of(*instance));
    states.back().error = dive.error().message;
    return states;
}

TEST(Determinism, a_nasty_guest_leaves_the_same_bits_every_time) {
    const std::vector<uint8_t> bytes = from_wat(nasty());
    const auto module = Module::compile(test_runtime(), bytes).value();
    const std::vector<State> first = run(*module);
    EXPECT_TRUE(first == run(*module));

    const auto other_runtime = Runtime::create({}).value();
    const auto other_module = Module::compile(*other_runtime, bytes).value();
    EXPECT_TRUE(first == run(*other_module));

    uint32_t grown = 0;
    std::memcpy(&grown, first[1].memory.data() + 8, sizeof grown);
    EXPECT_EQ(grown, (100u - 20) / 7);  // exactly at the actor's own limit
    uint64_t depth = 0;
    std::memcpy(&depth, first[2].memory.data() + 16, sizeof depth);
    EXPECT_GT(depth, 1000u);
    EXPECT_NE(first[2].error.find("call stack exhausted"), std::string::npos) << first[2].error;
}

// Two instances that take turns disturb each other as little as two that do not.
TEST(Determinism, instances_that_take_turns_do_not_disturb_each_other) {
    const auto module = compile_wat(nasty()).value();
    TestHost host;
    const auto a = Instance::create(*module, host, kLimits, {}).value();
    const auto b = Instance::create(*module, host, kLimits, {}).value();
    ASSERT_TRUE(a->call("compute").ok());
    ASSERT_TRUE(b->call("compute").ok());
    ASSERT_TRUE(b->call("grow").ok());
    ASSERT_TRUE(a->call("grow").ok());
    EXPECT_TRUE(state_of(*a) == state_of(*b));
    EXPECT_TRUE(state_of(*a) == run(*module)[1]);
}

TEST(Determinism, every_nan_that_arithmetic_makes_is_canonical) {
    const auto module = compile_wat(nasty()).value();
    TestHost host;
    const auto instance = Instance::create(*module, host, kLimits, {}).value();
    ASSERT_TRUE(instance->call("compute").ok());
    // f64 results come first: 16 blocks of 7 single-operand ones, of which abs and neg only change a sign, and 96
    // others.
    std::map<uint64_t, int> nans;
    for (uint32_t block = 0; block < 16; block++) {
        for (uint32_t i = 0; i < 7 + 16 * 6; i++) {
            if (i == 5 || i == 6) continue;
            uint64_t bits = 0;
            const size_t at = kResults + kResultBytes * (block * (7 + 16 * 6) + i);
            std::memcpy(&bits, instance->memory().base() + at, sizeof bits);
            if ((bits & 0x7fffffffffffffff) > 0x7ff0000000000000) ++nans[bits];
        }
    }
    ASSERT_EQ(nans.size(), 1u);
    EXPECT_EQ(nans.begin()->first, 0x7ff8000000000000u);
    EXPECT_GT(nans.begin()->second, 500);
}

#if defined(__x86_64__)
// Whatever a library did to this thread: rounding, flushed subnormals, exceptions that trap.
TEST(Determinism, the_threads_floating_point_mode_does_not_reach_the_guest) {
    const auto module = compile_wat(nasty()).value();
    const std::vector<State> usual = run(*module);
    const unsigned before = __builtin_ia32_stmxcsr();
    for (const unsigned mode : {0x3F80U, 0x5F80U, 0x7F80U, 0x9FC0U, 0x1F00U, 0x0000U}) {
        std::vector<State> states;
        unsigned after = 0;
        std::thread([&] {
            __builtin_ia32_ldmxcsr(mode);
            // Nothing between the two calls computes: the mode would show, or trap, in the host's own arithmetic.
            TestHost host;
            const auto instance = Instance::create(*module, host, kLimits, {}).value();
            EXPECT_TRUE(instance->call("compute").ok());
            after = __builtin_ia32_stmxcsr();
            __builtin_ia32_ldmxcsr(before);
            states.push_back(state_of(*instance));
        }).join();
        EXPECT_TRUE(states[0] == usual[0]) << std::hex << mode;
        EXPECT_EQ(after & ~0x3FU, mode & ~0x3FU) << "the thread's own mode comes back";
    }
}
#endif

// With fuel a turn ends at the same instruction however slow the machine is.
TEST(Determinism, fuel_ends_a_turn_at_the_same_instruction) {
    const auto runtime = Runtime::create({.fuel = true}).value();
    const auto module = Module::compile(*runtime, from_wat(guest_wat(R"(
        (global $count (mut i64) (i64.const 0))
        (func $work (global.set $count (i64.add (global.get $count) (i64.const 1)))
                    (i64.store (i32.const 0) (global.get $count)))
        (func (export "forever") (loop $l (call $work) (br $l)))
        (func (export "once") (call $work)))")))
                            .value();
    TestHost host;
    const auto count_at_end = [&](uint64_t fuel) {
        const auto instance =
            Instance::create(*module, host, {.turn_deadline_ms = 60'000, .turn_fuel = fuel}, {}).value();
        const auto result = instance->call("forever");
        EXPECT_EQ(result.error().code, ErrorCode::kDeadline);
        EXPECT_NE(result.error().message.find("used up its " + std::to_string(fuel) + " units of fuel"),
                  std::string::npos)
            << result.error().message;
        EXPECT_EQ(static_cast<int>(instance->trap()->kind), static_cast<int>(TrapKind::kOutOfFuel));
        uint64_t count = 0;
        std::memcpy(&count, instance->memory().base(), sizeof count);
        return count;
    };
    const uint64_t count = count_at_end(1'000'000);
    EXPECT_GT(count, 10'000u);
    EXPECT_EQ(count_at_end(1'000'000), count);
    EXPECT_LT(count_at_end(999'000), count);

    const auto frugal = Instance::create(*module, host, {.turn_fuel = 1000}, {}).value();
    ASSERT_TRUE(frugal->call("once").ok());
    const uint64_t used = frugal->fuel_used();
    EXPECT_GT(used, 3u);
    for (int turn = 0; turn < 300; turn++) {  // each turn has its own
        ASSERT_TRUE(frugal->call("once").ok());
        EXPECT_EQ(frugal->fuel_used(), used);
    }
    const auto uncounted = compile_wat(guest_wat("")).value();
    EXPECT_EQ(Instance::create(*uncounted, host, {.turn_fuel = 1}, {}).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace driftwood::wasm
