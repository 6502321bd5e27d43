#include <gtest/gtest.h>

#include <random>

#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

Error refusal(std::string_view wat) {
    const auto module = compile_wat(wat);
    return module.ok() ? error(ErrorCode::kInternal, "it was accepted") : module.error();
}

bool says(const Error& failure, std::string_view part) { return failure.message.find(part) != std::string::npos; }

TEST(Module, reports_what_a_guest_imports_and_exports) {
    const auto bytes = from_wat(guest_wat(R"(
        (import "driftwood" "now" (func (result i64)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"));
    const ModuleFacts facts = inspect(bytes).value();
    EXPECT_EQ(facts.hash, file::blake3(bytes));
    EXPECT_EQ(facts.memory_min_pages, 1u);
    EXPECT_EQ(facts.memory_max_pages, 16u);
    ASSERT_EQ(facts.imports.size(), 2u);
    EXPECT_EQ(facts.imports[0].full_name(), "driftwood.now");
    EXPECT_EQ(facts.imports[0].type, "() -> (i64)");
    EXPECT_EQ(facts.imports[1].full_name(), "wasi_snapshot_preview1.proc_exit");
    ASSERT_EQ(facts.exports.size(), 3u);
    EXPECT_EQ(facts.exports[0].kind, "memory");
    EXPECT_EQ(facts.exports[2].name, "driftwood_complete");
    EXPECT_EQ(facts.exports[2].type, "(i64, i64) -> ()");
    EXPECT_TRUE(facts.refusals.empty());
    EXPECT_FALSE(facts.mutates_tables);
}

TEST(Module, keeps_the_original_bytes_for_the_image) {
    const auto bytes = from_wat(guest_wat(R"((func $f) (start $f) (data (i32.const 8) "x"))"));
    const auto module = Module::compile(test_runtime(), bytes).value();
    EXPECT_TRUE(
        std::equal(bytes.begin(), bytes.end(), module->original_bytes().begin(), module->original_bytes().end()));
    EXPECT_EQ(module->facts().hash, file::blake3(bytes));
}

TEST(Module, refuses_an_unknown_import_by_name) {
    const Error failure = refusal(guest_wat(R"((import "driftwood" "teleport" (func)))"));
    EXPECT_EQ(failure.code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(says(failure, "driftwood.teleport")) << failure.message;
    EXPECT_TRUE(says(refusal(guest_wat(R"((import "env" "now" (func (result i64))))")), "env.now"));
}

TEST(Module, refuses_an_import_of_the_wrong_type_by_name_and_types) {
    const Error failure = refusal(guest_wat(R"((import "driftwood" "receive" (func (param i32) (result i32))))"));
    EXPECT_EQ(failure.code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(says(failure, "driftwood.receive: want type (i32, i32) -> (i64), the module says (i32) -> (i32)"))
        << failure.message;
}

TEST(Module, refuses_a_missing_export_by_name) {
    const std::string memory = R"((memory (export "memory") 1))";
    const std::string start = R"((func (export "driftwood_start")))";
    const std::string complete = R"((func (export "driftwood_complete") (param i64 i64)))";
    EXPECT_TRUE(says(refusal("(module (memory 1)" + start + complete + ")"), "export memory: the module lacks it"));
    EXPECT_TRUE(says(refusal("(module" + memory + complete + ")"), "export driftwood_start: the module lacks it"));
    EXPECT_TRUE(says(refusal("(module" + memory + start + ")"), "export driftwood_complete: the module lacks it"));
    const Error wrong = refusal("(module" + memory + start + R"((func (export "driftwood_complete") (param i32))))");
    EXPECT_TRUE(says(wrong, "export driftwood_complete: want type (i64, i64) -> ()")) << wrong.message;
}

struct Refused {
    std::string_view feature;
    std::string_view body;
    std::string_view memory = "(memory (export \"memory\") 1 16)";
};

TEST(Module, refuses_what_cannot_be_frozen_by_name) {
    const Refused cases[] = {
        {"shared memory", "", R"((memory (export "memory") 1 1 shared))"},
        {"memory.init", R"((data $d "abc") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))"},
        {"data.drop", R"((data $d "abc") (func (data.drop $d)))"},
        {"table.init",
         R"((table 1 funcref) (elem $e func) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 0))))"},
        {"elem.drop", R"((elem $e func) (func (elem.drop $e)))"},
        {"table of references", R"((table 1 externref))"},
        {"imported memory", R"((import "env" "more" (memory 1)))"},
        {"imported global", R"((import "env" "g" (global i32)))"},
        {"imported table", R"((import "env" "t" (table 1 funcref)))"},
        {"multiple memories", R"((memory 1))"},
        {"memory64", "", R"((memory (export "memory") i64 1))"},
        {"exceptions", R"((tag $t) (func (throw $t)))"},
        {"threads", R"((func (drop (i32.atomic.load (i32.const 0)))))"},
        {"typed function references", R"((type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))"},
        {"stack switching", R"((type $f (func)) (type $c (cont $f)))"},
        {"custom page sizes", "", R"((memory (export "memory") 1 (pagesize 1)))"},
        {"wide arithmetic",
         R"((func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))))"},
        {"gc", R"((type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1)))))"},
        {"relaxed SIMD", R"((func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))"},
        {"reference-typed mutable global", R"((global (mut funcref) (ref.null func)))"},
        {"data outside memory", R"((data (i32.const 65535) "xy"))"},
        {"reserved export name", R"((func (export "__dw_mine")))"},
        {"missing memory", "", ""},
    };
    for (const Refused& refused : cases) {
        const Error failure = refusal(guest_wat(refused.body, refused.memory));
        EXPECT_EQ(failure.code, ErrorCode::kUnsupported) << refused.feature;
        EXPECT_TRUE(says(failure, refused.feature)) << refused.feature << ": " << failure.message;
    }
}

TEST(Module, accepts_what_ordinary_tool_chains_emit) {
    const auto module = compile_wat(guest_wat(R"(
        (table 2 2 funcref) (elem (i32.const 0) func $a $b)
        (global $sp (mut i32) (i32.const 1024)) (global $g i32 (i32.const 7))
        (type $f (func (result i32)))
        (func $a (result i32) (i32.const 1))
        (func $b (result i32) (return_call $a))
        (func $c (param i32) (result i32) (call_indirect (type $f) (local.get 0)))
        (func $d (memory.fill (i32.const 0) (i32.const 1) (i32.const 9))
                 (memory.copy (i32.const 20) (i32.const 0) (i32.const 9)))
        (func $e (result v128) (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4)))
        (func $h (param i32) (result i32 i32) (local.get 0) (i32.extend8_s (local.get 0)))
        (func $i (param f64) (result i64) (i64.trunc_sat_f64_s (local.get 0)))
        (data $unused "passive, and never looked at")
        (data (i32.const 0) "hello"))"));
    EXPECT_TRUE(module.ok()) << module.error().message;
}

TEST(Module, refuses_bytes_that_are_no_module) {
    std::mt19937 random(1);
    std::vector<uint8_t> good = from_wat(guest_wat(R"((data (i32.const 0) "hello"))"));
    for (int round = 0; round < 200; round++) {
        std::vector<uint8_t> bytes(random() % 200);
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
        EXPECT_FALSE(Module::compile(test_runtime(), bytes).ok());
        // A valid module with some bytes changed may still be valid; it must never end the process.
        std::vector<uint8_t> damaged = good;
        for (int i = 0; i < 3; i++) damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
        (void)Module::compile(test_runtime(), damaged).ok();
    }
    const auto empty = Module::compile(test_runtime(), {});
    ASSERT_FALSE(empty.ok());
    EXPECT_EQ(empty.error().code, ErrorCode::kInvalidArgument);
    good.resize(good.size() / 2);
    EXPECT_EQ(Module::compile(test_runtime(), good).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace driftwood::wasm
