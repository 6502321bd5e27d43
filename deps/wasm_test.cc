// Inspection and rewriting of guest modules through the C interface; what was rewritten is run by Wasmtime.
#include <gtest/gtest.h>
#include <wasmtime.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "shim_test.h"

namespace driftwood::deps {
namespace {

using nlohmann::json;
using Bytes = std::vector<uint8_t>;

Bytes assemble(std::string_view wat) {
    wasm_byte_vec_t out;
    wasmtime_error_t* error = wasmtime_wat2wasm(wat.data(), wat.size(), &out);
    if (error != nullptr) {
        wasm_byte_vec_t message;
        wasmtime_error_message(error, &message);
        ADD_FAILURE() << std::string(message.data, message.size);
        wasm_byte_vec_delete(&message);
        wasmtime_error_delete(error);
        return {};
    }
    Bytes bytes(out.data, out.data + out.size);
    wasm_byte_vec_delete(&out);
    return bytes;
}

json inspect(const Bytes& module) {
    Buf report, error;
    EXPECT_EQ(dwd_wasm_inspect(module.data(), module.size(), report.out(), error.out()), DWD_OK) << error.str();
    return json::parse(report.str(), nullptr, false);
}

struct Rewritten {
    int32_t status;
    Bytes module, birth;
    json facts;
    std::string error;
};

Rewritten rewrite(const Bytes& module) {
    Buf rewritten, birth, facts, error;
    int32_t status =
        dwd_wasm_rewrite(module.data(), module.size(), rewritten.out(), birth.out(), facts.out(), error.out());
    return {status, rewritten.bytes(), birth.bytes(), json::parse(facts.str(), nullptr, false), error.str()};
}

std::vector<std::string> features(const Bytes& module) {
    std::vector<std::string> out;
    json report = inspect(module);
    for (const json& refusal : report["refusals"]) out.push_back(refusal["feature"]);
    return out;
}

bool has(const std::vector<std::string>& list, std::string_view item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

std::vector<std::string> export_names(const Bytes& module) {
    std::vector<std::string> out;
    json report = inspect(module);
    for (const json& e : report["exports"]) out.push_back(e["name"]);
    return out;
}

constexpr std::string_view kGuest = R"((module
  (import "driftwood" "log" (func $log (param i32 i32)))
  (memory 2 10)
  (global $stack (mut i32) (i32.const 4096))
  (global $constant i32 (i32.const 7))
  (global $wide (mut i64) (i64.const -1))
  (table 4 funcref)
  (elem (i32.const 0) $init $add)
  (data (i32.const 16) "hello")
  (data "never used")
  (data (i32.const 18) "LL")
  (data (i32.const 131072) "")
  (func $init (global.set $stack (i32.load8_u (i32.const 18))))
  (func $add (export "add") (param i32 i64) (result i32) (i32.add (local.get 0) (i32.wrap_i64 (local.get 1))))
  (start $init)))";

TEST(WasmInspect, reports_the_shape_of_a_module) {
    json r = inspect(assemble(kGuest));
    EXPECT_EQ(r["refusals"], json::array());
    json log = {{"module", "driftwood"}, {"name", "log"}, {"kind", "func"}, {"type", "(i32, i32) -> ()"}};
    json add = {{"name", "add"}, {"kind", "func"}, {"index", 2}, {"type", "(i32, i64) -> (i32)"}};
    EXPECT_EQ(r["imports"], json::array({log}));
    EXPECT_EQ(r["exports"], json::array({add}));
    EXPECT_EQ(r["memories"], json::parse(R"([{"min":2,"max":10,"memory64":false,"shared":false,"imported":false}])"));
    EXPECT_EQ(r["tables"], json::parse(R"([{"element":"funcref","min":4,"max":null,"imported":false}])"));
    EXPECT_EQ(r["globals"][0], json::parse(R"({"type":"i32","mutable":true,"imported":false})"));
    EXPECT_EQ(r["data_segments"], json::parse(R"({"active":3,"passive":1})"));
    EXPECT_EQ(r["element_segments"], json::parse(R"({"active":1,"passive":0,"declared":0})"));
    EXPECT_EQ(r["start"], 1);
    EXPECT_EQ(r["mutates_tables"], false);
}

TEST(WasmRewrite, moves_data_to_the_birth_image_and_start_to_an_export) {
    Rewritten r = rewrite(assemble(kGuest));
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    EXPECT_EQ(std::string(r.birth.begin(), r.birth.end()), "helloLL");
    EXPECT_EQ(r.facts["birth"], json::parse(R"([{"offset":16,"len":5},{"offset":18,"len":2}])"));
    EXPECT_EQ(r.facts["has_start"], true);
    EXPECT_EQ(r.facts["memory"], json::parse(R"({"min_pages":2,"max_pages":10,"export":"__dw_memory_0"})"));
    EXPECT_EQ(r.facts["globals"], json::parse(R"([{"index":0,"type":"i32","export":"__dw_global_0"},
                                                  {"index":2,"type":"i64","export":"__dw_global_2"}])"));
    EXPECT_EQ(r.facts["functions"], json::array());
    json after = inspect(r.module);
    EXPECT_EQ(after["start"], nullptr);
    EXPECT_EQ(after["data_segments"], json::parse(R"({"active":0,"passive":4})"));
    EXPECT_EQ(export_names(r.module), (std::vector<std::string>{"add", "__dw_memory_0", "__dw_global_0",
                                                                "__dw_global_2", "__dw_table_0", "__dw_start"}));
}

TEST(WasmRewrite, gives_the_same_bytes_for_the_same_input) {
    Bytes module = assemble(kGuest);
    EXPECT_EQ(rewrite(module).module, rewrite(module).module);
    EXPECT_EQ(rewrite(module).facts, rewrite(module).facts);
}

TEST(WasmRewrite, copies_code_and_custom_sections_as_they_are) {
    Bytes module = assemble(R"((module (memory 1) (@custom "notes" (after code) "keep me")
        (func $named (export "f") (result i32) (i32.const 305419896)) (data (i32.const 0) "x")))");
    Rewritten r = rewrite(module);
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    std::string after(r.module.begin(), r.module.end());
    EXPECT_TRUE(contains(after, "keep me"));
    EXPECT_TRUE(contains(after, "named"));
    // The whole code section: id 10, 10 bytes, one body of 8: no locals, i32.const 0x12345678, end.
    EXPECT_TRUE(contains(after, std::string_view("\x0a\x0a\x01\x08\x00\x41\xf8\xac\xd1\x91\x01\x0b", 12)));
}

TEST(WasmRewrite, exports_referenced_functions_only_if_tables_change) {
    Rewritten r = rewrite(assemble(R"((module (memory 1) (table 2 10 funcref)
        (func $a) (func $b) (func $c) (func $unreferenced) (elem (i32.const 0) $a) (elem declare func $b)
        (func (export "go") (table.set (i32.const 1) (ref.func $b)))))"));
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    EXPECT_EQ(r.facts["mutates_tables"], true);
    EXPECT_EQ(r.facts["functions"],
              json::parse(R"([{"index":0,"export":"__dw_func_0"},{"index":1,"export":"__dw_func_1"},
                                                    {"index":4,"export":"__dw_func_4"}])"));
    EXPECT_EQ(r.facts["tables"][0]["max"], 10);
}

TEST(WasmRewrite, a_module_without_export_data_or_start_sections_works) {
    Rewritten r = rewrite(assemble("(module (memory 1))"));
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    EXPECT_EQ(r.facts["has_start"], false);
    EXPECT_EQ(export_names(r.module), std::vector<std::string>{"__dw_memory_0"});
    EXPECT_TRUE(r.birth.empty());
}

TEST(WasmRewrite, computes_constant_offsets) {
    Rewritten r = rewrite(assemble(R"((module (memory 1)
        (data (offset (i32.sub (i32.mul (i32.const 6) (i32.const 7)) (i32.const 2))) "z")))"));
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    EXPECT_EQ(r.facts["birth"], json::parse(R"([{"offset":40,"len":1}])"));
}

struct Case {
    const char* feature;
    const char* wat;
};

// Each module is valid WebAssembly and cannot be frozen for exactly this reason.
const Case kRefused[] = {
    {"missing memory", "(module)"},
    {"imported memory", R"((module (import "a" "b" (memory 1))))"},
    {"imported table", R"((module (import "a" "b" (table 1 funcref)) (memory 1)))"},
    {"imported global", R"((module (import "a" "b" (global i32)) (memory 1)))"},
    {"multiple memories", "(module (memory 1) (memory 1))"},
    {"memory64", "(module (memory i64 1))"},
    {"shared memory", "(module (memory 1 2 shared))"},
    {"threads", "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"},
    {"gc", "(module (memory 1) (type (struct (field i32))))"},
    {"host references", "(module (memory 1) (func (param externref)))"},
    {"table of references", "(module (memory 1) (table 1 externref))"},
    {"typed function references", "(module (memory 1) (type $f (func)) (func (param (ref null $f))))"},
    {"reference-typed mutable global", "(module (memory 1) (global (mut funcref) (ref.null func)))"},
    {"exceptions", "(module (memory 1) (tag))"},
    {"relaxed SIMD",
     "(module (memory 1) (func (param v128 v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))))"},
    {"memory.init",
     R"((module (memory 1) (data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))))"},
    {"data.drop", R"((module (memory 1) (data $d "x") (func (data.drop $d))))"},
    {"table.init",
     "(module (memory 1) (table 1 funcref) (elem $e func) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const "
     "0))))"},
    {"elem.drop", "(module (memory 1) (elem $e func) (func (elem.drop $e)))"},
    {"data outside memory", R"((module (memory 1) (data (i32.const 65535) "xy")))"},
    {"data outside memory", R"((module (memory 1) (data (i32.const -1) "x")))"},
    {"reserved export name", R"((module (memory (export "__dw_memory_0") 1)))"},
};

TEST(WasmInspect, names_every_feature_that_cannot_be_frozen) {
    for (const Case& c : kRefused) {
        Bytes module = assemble(c.wat);
        EXPECT_TRUE(has(features(module), c.feature)) << c.wat << "\n" << inspect(module)["refusals"].dump();
        Rewritten r = rewrite(module);
        EXPECT_EQ(r.status, DWD_REFUSED) << c.wat;
        EXPECT_TRUE(contains(r.error, c.feature)) << r.error;
        EXPECT_TRUE(r.module.empty());
    }
}

TEST(WasmInspect, lists_several_refusals_at_once) {
    auto list = features(assemble(R"((module (import "a" "b" (global i32)) (memory i64 1 2 shared) (tag))"
                                  R"((type (struct (field i32)))))"));
    for (const char* feature : {"threads", "memory64", "exceptions", "gc", "imported global"}) {
        EXPECT_TRUE(has(list, feature)) << feature;
    }
}

TEST(WasmInspect, unused_passive_segments_and_allowed_proposals_are_fine) {
    EXPECT_TRUE(features(assemble(R"((module (memory 1) (data "unused") (elem func)
        (func $f (param v128) (result i32 i32) (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))
            (i32.extend8_s (i32.const 1)) (i32.trunc_sat_f32_s (f32.const 1)))
        (func (param v128) (result i32 i32) (return_call $f (local.get 0)))
        (global funcref (ref.func $f))))"))
                    .empty());
}

TEST(WasmInspect, bytes_that_are_no_module_are_an_error) {
    std::mt19937 random(1);
    Bytes good = assemble(kGuest);
    Buf report, error;
    for (int i = 0; i < 2000; ++i) {
        Bytes bytes(random() % 300);
        for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
        if (i % 2 == 1 && bytes.size() >= 8) std::memcpy(bytes.data(), good.data(), 8);
        if (bytes.size() == 8) continue;  // the header alone is an empty module
        EXPECT_EQ(dwd_wasm_inspect(bytes.data(), bytes.size(), report.out(), error.out()), DWD_INVALID) << i;
        EXPECT_TRUE(contains(error.str(), "[wasm.validate]")) << error.str();
    }
    Bytes component = {0, 'a', 's', 'm', 0x0d, 0, 1, 0};
    EXPECT_EQ(dwd_wasm_inspect(component.data(), component.size(), report.out(), error.out()), DWD_INVALID);
    EXPECT_TRUE(contains(error.str(), "component")) << error.str();
}

TEST(WasmRewrite, damaged_modules_never_panic) {
    std::mt19937 random(2);
    Bytes good = assemble(kGuest);
    int refused = 0;
    for (int i = 0; i < 20'000; ++i) {
        Bytes bytes = good;
        for (uint32_t flips = 1 + random() % 3; flips > 0; --flips) {
            bytes[8 + random() % (bytes.size() - 8)] = static_cast<uint8_t>(random());
        }
        if (random() % 4 == 0) bytes.resize(random() % bytes.size());
        Rewritten r = rewrite(bytes);
        ASSERT_NE(r.status, DWD_PANIC) << r.error;
        refused += r.status != DWD_OK;
    }
    EXPECT_GT(refused, 1000);
}

// Wasmtime with the settings that the shim's validation assumes.
struct Engine {
    wasm_engine_t* engine;
    wasmtime_store_t* store;
    wasmtime_context_t* context;

    Engine() {
        wasm_config_t* config = wasm_config_new();
        wasmtime_config_wasm_memory64_set(config, false);
        wasmtime_config_wasm_multi_memory_set(config, false);
        wasmtime_config_wasm_relaxed_simd_set(config, false);
        engine = wasm_engine_new_with_config(config);
        store = wasmtime_store_new(engine, nullptr, nullptr);
        context = wasmtime_store_context(store);
    }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() {
        wasmtime_store_delete(store);
        wasm_engine_delete(engine);
    }

    wasmtime_instance_t instantiate(const Bytes& bytes) {
        wasmtime_module_t* module = nullptr;
        wasmtime_instance_t instance{};
        wasm_trap_t* trap = nullptr;
        EXPECT_EQ(wasmtime_module_new(engine, bytes.data(), bytes.size(), &module), nullptr);
        EXPECT_EQ(wasmtime_instance_new(context, module, nullptr, 0, &instance, &trap), nullptr);
        EXPECT_EQ(trap, nullptr);
        wasmtime_module_delete(module);
        return instance;
    }
    wasmtime_extern_t get(wasmtime_instance_t& instance, std::string_view name) {
        wasmtime_extern_t item{};
        EXPECT_TRUE(wasmtime_instance_export_get(context, &instance, name.data(), name.size(), &item)) << name;
        return item;
    }
    void call(wasmtime_instance_t& instance, std::string_view name) {
        wasmtime_extern_t f = get(instance, name);
        wasm_trap_t* trap = nullptr;
        EXPECT_EQ(wasmtime_func_call(context, &f.of.func, nullptr, 0, nullptr, 0, &trap), nullptr);
        EXPECT_EQ(trap, nullptr);
    }
    int32_t global(wasmtime_instance_t& instance, std::string_view name) {
        wasmtime_extern_t item = get(instance, name);
        wasmtime_val_t value;
        wasmtime_global_get(context, &item.of.global, &value);
        return value.of.i32;
    }
};

TEST(WasmRewrite, a_rewritten_module_is_born_in_wasmtime) {
    Rewritten r = rewrite(assemble(R"((module (memory 1)
        (global $seen (mut i32) (i32.const 1)) (global $counter (mut i32) (i32.const 10))
        (data (i32.const 100) "*")
        (func $init (global.set $seen (i32.load8_u (i32.const 100))))
        (func (export "count") (global.set $counter (i32.add (global.get $counter) (i32.const 1))))
        (start $init)))"));
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    Engine wasm;
    wasmtime_instance_t instance = wasm.instantiate(r.module);
    EXPECT_EQ(wasm.global(instance, "__dw_global_0"), 1) << "start must not have run";
    wasmtime_extern_t memory = wasm.get(instance, "__dw_memory_0");
    uint8_t* base = wasmtime_memory_data(wasm.context, &memory.of.memory);
    EXPECT_EQ(base[100], 0) << "data must not have been written";
    std::memcpy(base + r.facts["birth"][0]["offset"].get<size_t>(), r.birth.data(), r.birth.size());
    wasm.call(instance, "__dw_start");
    EXPECT_EQ(wasm.global(instance, "__dw_global_0"), '*');
    wasm.call(instance, "count");
    EXPECT_EQ(wasm.global(instance, "__dw_global_1"), 11);
}

}  // namespace
}  // namespace driftwood::deps
