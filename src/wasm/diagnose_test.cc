#include "wasm/diagnose.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

Diagnosis diagnosis_of(std::string_view wat) { return diagnose(test_runtime(), from_wat(wat)).value(); }

const Problem* find(const std::vector<Problem>& problems, std::string_view thing) {
    const auto found =
        std::find_if(problems.begin(), problems.end(), [&](const Problem& p) { return p.thing == thing; });
    return found == problems.end() ? nullptr : &*found;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

TEST(Diagnose, a_good_guest_starts_and_freezes) {
    const Diagnosis good = diagnosis_of(guest_wat(R"(
        (import "driftwood" "receive" (func (param i32 i32) (result i64)))
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_unlink_file" (func (param i32 i32 i32) (result i32)))
        (table 3 funcref) (global (mut i32) (i32.const 0)) (global i64 (i64.const 0))
        (func (export "extra") (param i32)) (func $s) (start $s)
        (func (result v128) (v128.const i64x2 0 0))
        (func (result i32) (i32.extend8_s (i32.const 1))))"));
    EXPECT_TRUE(good.starts());
    EXPECT_TRUE(good.freezes());
    ASSERT_EQ(good.imports.size(), 3u);
    EXPECT_EQ(good.imports[0].name, "driftwood.receive");
    EXPECT_EQ(good.imports[0].type, "(i32, i32) -> (i64)");
    EXPECT_EQ(good.imports[0].meaning, "guest ABI");
    EXPECT_EQ(good.imports[1].meaning, "WASI");
    EXPECT_TRUE(has(good.imports[2].meaning, "always an error"));
    const ModuleFacts& facts = good.facts;
    EXPECT_EQ(facts.tables, std::vector<uint64_t>{3});
    EXPECT_EQ(facts.globals, 2u);
    EXPECT_EQ(facts.mutable_globals, 1u);
    EXPECT_TRUE(facts.has_start);
    EXPECT_TRUE(facts.has_names);  // of $s
    EXPECT_FALSE(facts.has_lines);
    EXPECT_EQ(facts.functions, 3u + 6u);
    EXPECT_EQ(facts.features, (std::vector<std::string>{"sign extension", "SIMD"}));
    for (const Meaning& item : good.exports) {
        EXPECT_EQ(item.name == "extra", item.meaning == "not called by the runtime") << item.name;
    }
}

TEST(Diagnose, names_each_unusable_import_with_a_fix) {
    struct Case {
        std::string_view import;
        std::string_view thing;
        std::string_view fix;
    };
    const Case cases[] = {
        {R"("driftwood" "recieve" (func))", "import driftwood.recieve", "did you mean driftwood.receive?"},
        {R"("driftwood" "fly_to_the_moon_and_back" (func))", "import driftwood.fly_to_the_moon_and_back",
         "docs/abi.md"},
        {R"("wasi_snapshot_preview1" "fd_wrote" (func))", "import wasi_snapshot_preview1.fd_wrote", "fd_write?"},
        {R"("wasi_unstable" "fd_write" (func))", "import wasi_unstable.fd_write", "newer wasi-libc"},
        {R"("wasi:io/poll@0.2.0" "poll" (func))", "import wasi:io/poll@0.2.0.poll", "wasm32-wasip1"},
        {R"("wasi_ephemeral_nn" "load" (func))", "import wasi_ephemeral_nn.load", "driftwood calls"},
        {R"("env" "printf" (func))", "import env.printf", "nothing in the guest defines printf"},
        {R"("__wbindgen_placeholder__" "f" (func))", "import __wbindgen_placeholder__.f", "JavaScript"},
        {R"("my_host" "f" (func))", "import my_host.f", "driftwood and wasi_snapshot_preview1 only"},
        {R"("driftwood" "now" (func (result i32)))", "import driftwood.now", "guest.h"},
    };
    for (const Case& c : cases) {
        const Diagnosis sick = diagnosis_of(guest_wat("(import " + std::string(c.import) + ")"));
        EXPECT_FALSE(sick.starts()) << c.thing;
        EXPECT_TRUE(sick.freezes()) << c.thing;
        const Problem* problem = find(sick.not_startable, c.thing);
        ASSERT_NE(problem, nullptr) << c.thing;
        EXPECT_TRUE(has(problem->fix, c.fix)) << c.thing << ": " << problem->fix;
        EXPECT_EQ(sick.imports[0].meaning, "not available");
    }
}

TEST(Diagnose, lists_all_that_is_missing_at_once) {
    const Diagnosis sick = diagnosis_of(R"((module (memory 1) (func (export "_start"))
        (func (export "driftwood_complete") (param i32)) (func (export "_initialize") (result i32) (i32.const 1))))");
    EXPECT_FALSE(sick.starts());
    ASSERT_EQ(sick.not_startable.size(), 4u);
    EXPECT_NE(find(sick.not_startable, "export memory"), nullptr);
    const Problem* start = find(sick.not_startable, "export driftwood_start");
    ASSERT_NE(start, nullptr);
    EXPECT_TRUE(has(start->fix, "-mexec-model=reactor")) << start->fix;
    EXPECT_TRUE(has(find(sick.not_startable, "export driftwood_complete")->why, "(i64, i64) -> ()"));
    EXPECT_TRUE(has(find(sick.not_startable, "export _initialize")->why, "want type () -> ()"));
}

// Every refusal of the inspector comes with its own fix.
TEST(Diagnose, says_why_a_guest_could_not_be_frozen_and_what_to_do) {
    const std::pair<std::string_view, std::string_view> cases[] = {
        {"memory.init", R"((data $d "abc") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))"},
        {"table of references", "(table 1 externref)"},
        {"exceptions", "(tag $t) (func (throw $t))"},
        {"gc", "(type $s (struct)) (func (drop (struct.new $s)))"},
        {"imported global", R"((import "env" "g" (global i32)))"},
        {"imported table", R"((import "env" "t" (table 1 funcref)))"},
        {"multiple memories", "(memory 1)"},
        {"relaxed SIMD", "(func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))))"},
        {"data outside memory", R"((data (i32.const 65535) "xy"))"},
        {"reserved export name", R"((func (export "__dw_mine")))"},
    };
    for (const auto& [feature, body] : cases) {
        const Diagnosis sick = diagnosis_of(guest_wat(body));
        EXPECT_FALSE(sick.freezes()) << feature;
        EXPECT_FALSE(sick.starts()) << feature;
        const Problem* problem = find(sick.not_freezable, feature);
        ASSERT_NE(problem, nullptr) << feature;
        EXPECT_FALSE(problem->why.empty()) << feature;
        EXPECT_FALSE(problem->fix.empty()) << feature;
        EXPECT_TRUE(sick.not_startable.empty()) << feature << ": " << text_of(sick.not_startable);
    }
}

// The doctor and the runtime are of one mind.
TEST(Diagnose, agrees_with_what_compile_does) {
    const std::string wats[] = {
        guest_wat(""),
        guest_wat("(table 1 externref)"),
        guest_wat(R"((import "env" "f" (func)))"),
        "(module)",
        R"((module (memory (export "memory") 1)))",
        guest_wat("(func $f (unreachable)) (start $f)"),  // fails at birth only
    };
    for (const std::string& wat : wats) {
        EXPECT_EQ(diagnosis_of(wat).starts(), compile_wat(wat).ok()) << wat;
    }
}

TEST(Diagnose, bytes_that_are_no_module_are_an_error_that_says_so) {
    const std::vector<uint8_t> component = {0, 'a', 's', 'm', 0x0d, 0, 1, 0};
    const auto refused = diagnose(test_runtime(), component);
    ASSERT_FALSE(refused.ok());
    EXPECT_TRUE(has(refused.error().message, "component")) << refused.error().message;
    for (const std::vector<uint8_t>& bytes : {std::vector<uint8_t>{}, {1, 2, 3}, {0, 'a', 's', 'm', 1, 0, 0, 0, 9}}) {
        const auto nothing = diagnose(test_runtime(), bytes);
        ASSERT_FALSE(nothing.ok());
        EXPECT_EQ(nothing.error().code, ErrorCode::kInvalidArgument);
    }
}

}  // namespace
}  // namespace driftwood::wasm
