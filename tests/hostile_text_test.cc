// Text that makes a tokenizer slow: a megabyte of it, appended by a guest, costs a bounded moment.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>

#include "node/node.h"
#include "wasm/test_host.h"

namespace driftwood {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int kMostSeconds = 60;  // the library is not instrumented, but what is around it is
#else
constexpr int kMostSeconds = 15;
#endif

// Writes `piece` over the second megabyte, and appends that as a message in one call.
std::string appends(const std::string& piece, size_t piece_bytes) {
    return R"((module
        (import "driftwood" "session_open" (func $open (result i64)))
        (import "driftwood" "session_append" (func $append (param i64 i32 i32 i32 i32) (result i64)))
        (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
        (memory (export "memory") 33)
        (data (i32.const 16) "user") (data (i32.const 0x100000) ")" +
           piece + R"(")
        (func (export "driftwood_start") (local $have i32)
            (local.set $have (i32.const )" +
           std::to_string(piece_bytes) + R"())
            (loop $l
                (memory.copy (i32.add (i32.const 0x100000) (local.get $have)) (i32.const 0x100000) (local.get $have))
                (local.set $have (i32.mul (local.get $have) (i32.const 2)))
                (br_if $l (i32.le_u (local.get $have) (i32.const 0x80000))))
            (i64.store (i32.const 0) (call $append (call $open) (i32.const 16) (i32.const 4)
                (i32.const 0x100000) (local.get $have)))
            (drop (call $reply (i32.const 0) (i32.const 8) (i32.const 1))))
        (func (export "driftwood_complete") (param i64 i64))))";
}

TEST(HostileTextTest, a_megabyte_of_any_pattern_is_tokenized_in_bounded_time) {
    struct Case {
        const char* what;
        std::string wat;  // in a string of the text format
        size_t bytes;
    };
    const Case cases[] = {
        {"spaces", " ", 1},
        {"one letter", "a", 1},
        {"newlines", "\\0a", 1},
        {"digits", "7", 1},
        {"spaces and letters", " a", 2},
        {"apostrophes", "'", 1},
        {"combining marks", "\\cc\\81", 2},
        {"a letter and combining marks", "e\\cc\\81\\cc\\80", 5},
        {"emoji with joiners", "\\f0\\9f\\91\\a9\\e2\\80\\8d", 7},
        {"special tokens spelled out", "<|im_start|><|im_end|><s></s>", 29},
        {"beginnings of special tokens", "<|", 2},
        {"template syntax", "{{%}}", 5},
        {"zero bytes", "\\00", 1},
        {"not UTF-8", "\\ff", 1},
    };
    SystemClock clock;
    SeededEntropy entropy(1);
    const auto node = node::Node::create({.threads = 1, .limits = {.turn_deadline_ms = 120'000}, .module_cache = "off"},
                                         clock, entropy)
                          .value();
    for (const Case& c : cases) {
        auto live = node->spawn(wasm::from_wat(appends(c.wat, c.bytes)), {}).value();
        const auto begin = std::chrono::steady_clock::now();
        const actor::Step step = live.actor->step();
        const auto took = std::chrono::steady_clock::now() - begin;
        EXPECT_LE(took, std::chrono::seconds(kMostSeconds)) << c.what;
        ASSERT_FALSE(step.error.has_value()) << c.what << ": " << step.error->message;
        int64_t status = 0;
        for (const auto& effect : step.effects) {
            if (effect.kind == actor::Effect::Kind::kReply) std::memcpy(&status, effect.bytes.data(), sizeof status);
        }
        EXPECT_LT(status, 0) << c.what;  // no context is that long; or it is not UTF-8
        RecordProperty(c.what, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
        std::printf("%-32s %6lld ms, status %lld\n", c.what,
                    static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()),
                    static_cast<long long>(status));
    }
}

}  // namespace
}  // namespace driftwood
