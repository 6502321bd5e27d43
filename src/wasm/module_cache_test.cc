// Compiled modules out of the user's cache.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "file/test_directory.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

struct ModuleCache : testing::Test {
    std::unique_ptr<Runtime> runtime() const {
        return Runtime::create({.module_cache = directory.file("modules")}).value();
    }
    // The one entry of the cache.
    std::string entry() const {
        std::string found;
        for (const auto& item : std::filesystem::directory_iterator(directory.file("modules"))) {
            EXPECT_TRUE(found.empty()) << "two entries";
            found = item.path().string();
        }
        return found;
    }

    const file::TestDirectory directory;
    const std::vector<uint8_t> wasm = from_wat(guest_wat(R"(
        (global $g (mut i32) (i32.const 5)) (data (i32.const 8) "abc")
        (func $fail (export "fail") (unreachable))
        (func (export "run") (i32.store (i32.const 0) (i32.mul (global.get $g) (i32.load8_u (i32.const 8))))))"));
};

// What a module that came from the cache must still do: compute, hold its image, name functions in traps.
void expect_works(const Module& module) {
    TestHost host;
    const auto instance = Instance::create(module, host, {}, {}).value();
    ASSERT_TRUE(instance->call("run").ok());
    uint32_t product = 0;
    std::memcpy(&product, instance->memory().base(), sizeof product);
    EXPECT_EQ(product, 5u * 'a');
    const auto failed = instance->call("fail");
    ASSERT_FALSE(failed.ok());
    EXPECT_NE(failed.error().message.find("unreachable"), std::string::npos);
    EXPECT_NE(failed.error().message.find("at fail"), std::string::npos) << failed.error().message;
}

TEST_F(ModuleCache, the_second_compilation_comes_from_the_cache_and_works_the_same) {
    const auto first_runtime = runtime();
    const auto first = Module::compile(*first_runtime, wasm).value();
    EXPECT_FALSE(first->compile_report().from_cache);
    EXPECT_EQ(first->compile_report().cache_problem, "");
    expect_works(*first);
    const auto second_runtime = runtime();  // as of another process
    const auto second = Module::compile(*second_runtime, wasm).value();
    EXPECT_TRUE(second->compile_report().from_cache);
    expect_works(*second);
    EXPECT_EQ(second->facts().hash, first->facts().hash);
}

TEST_F(ModuleCache, another_module_has_another_entry) {
    const auto engine = runtime();
    ASSERT_TRUE(Module::compile(*engine, wasm).ok());
    const auto other = Module::compile(*engine, from_wat(guest_wat(""))).value();
    EXPECT_FALSE(other->compile_report().from_cache);
}

// The bytes are native code: nothing but what was stored may ever run.
TEST_F(ModuleCache, a_damaged_entry_is_compiled_again) {
    const auto engine = runtime();
    ASSERT_TRUE(Module::compile(*engine, wasm).ok());
    const std::string path = entry();
    const std::vector<uint8_t> good = file::read_all(path);
    std::mt19937 random(1);
    for (int round = 0; round < 40; round++) {
        std::vector<uint8_t> bad = good;
        if (round % 4 == 0) {
            bad.resize(random() % good.size());
        } else {
            bad[random() % bad.size()] ^= static_cast<uint8_t>(1 + random() % 255);
        }
        file::write_all(path, bad);
        ASSERT_EQ(chmod(path.c_str(), 0600), 0);
        const auto module = Module::compile(*engine, wasm).value();
        EXPECT_FALSE(module->compile_report().from_cache);
        EXPECT_EQ(module->compile_report().cache_problem, "");
        EXPECT_EQ(file::read_all(entry()).size(), good.size());  // mended
    }
    EXPECT_TRUE(Module::compile(*engine, wasm).value()->compile_report().from_cache);
}

TEST_F(ModuleCache, an_entry_that_others_can_write_is_not_loaded) {
    const auto engine = runtime();
    ASSERT_TRUE(Module::compile(*engine, wasm).ok());
    ASSERT_EQ(chmod(entry().c_str(), 0660), 0);
    EXPECT_FALSE(Module::compile(*engine, wasm).value()->compile_report().from_cache);
    EXPECT_TRUE(Module::compile(*engine, wasm).value()->compile_report().from_cache);  // replaced by one of ours
}

TEST_F(ModuleCache, a_directory_that_cannot_be_used_costs_only_time) {
    std::filesystem::create_directory(directory.file("modules"));
    ASSERT_EQ(chmod(directory.file("modules").c_str(), 0755), 0);
    const auto engine = runtime();
    const auto module = Module::compile(*engine, wasm).value();
    EXPECT_FALSE(module->compile_report().from_cache);
    EXPECT_NE(module->compile_report().cache_problem.find("mode 0700"), std::string::npos);
    expect_works(*module);
    EXPECT_TRUE(std::filesystem::is_empty(directory.file("modules")));
}

TEST_F(ModuleCache, what_is_refused_is_refused_with_a_cache_too) {
    const auto engine = runtime();
    EXPECT_FALSE(Module::compile(*engine, from_wat("(module)")).ok());
    EXPECT_FALSE(Module::compile(*engine, from_wat(guest_wat("(import \"env\" \"f\" (func))"))).ok());
    EXPECT_FALSE(Module::compile(*engine, from_wat(guest_wat("(import \"env\" \"f\" (func))"))).ok());
}

}  // namespace
}  // namespace driftwood::wasm
