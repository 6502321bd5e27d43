#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

namespace fs = std::filesystem;

class Snapshot : public testing::Test {
  protected:
    void SetUp() override {
        std::string name = (fs::temp_directory_path() / "driftwood-snapshot-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        directory_ = name;
    }
    void TearDown() override { fs::remove_all(directory_); }

    // An image as actor/ writes it: the guest's tensors and one tensor of state.
    std::string write(file::SectionWriter& image, std::vector<uint8_t> state) {
        std::string path = (directory_ / (std::to_string(files_++) + ".safetensors")).string();
        const uint64_t size = state.size();
        image.add_owned("actor.state", file::DType::kU8, {size}, std::move(state));
        EXPECT_TRUE(image.commit(path, {.replace = false, .durable = false}).ok());
        return path;
    }

    std::string freeze(const Instance& instance) {
        file::SectionWriter image;
        file::Encoder state;
        EXPECT_TRUE(instance.save(image, state).ok());
        return write(image, state.take());
    }

    static Result<std::unique_ptr<Instance>> thaw(const std::string& path, const Module& module, GuestHost& host,
                                                  const InstanceLimits& limits = {}) {
        DW_ASSIGN(const auto image, file::SectionReader::open(path, file::SectionReader::Hashes::kRequired));
        DW_ASSIGN(const auto bytes, image.read("actor.state", file::DType::kU8));
        file::Decoder state("actor.state", bytes);
        DW_ASSIGN(auto instance, Instance::restore(module, host, limits, image, state));
        DW_TRY(state.finish());
        return instance;
    }

    // The guest through an image and out again, as if in another process: same module bytes, compiled anew.
    void freeze_and_thaw(TestGuest& guest) {
        const std::string path = freeze(*guest.instance);
        const auto bytes = guest.module->original_bytes();
        auto module = Module::compile(test_runtime(), {bytes.begin(), bytes.end()}).value();
        guest.instance = thaw(path, *module, *guest.host).value();
        guest.module = std::move(module);
    }

    fs::path directory_;
    int files_ = 0;
};

TEST_F(Snapshot, memory_comes_back_and_goes_on) {
    TestGuest guest(guest_wat(R"((data (i32.const 100) "born")
        (func (export "count") (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))))
        (func (export "grow") (drop (memory.grow (i32.const 4))) (i32.store (i32.const 300000) (i32.const 77))))"));
    ASSERT_TRUE(guest.instance->call("count").ok());
    ASSERT_TRUE(guest.instance->call("grow").ok());
    freeze_and_thaw(guest);
    EXPECT_EQ(guest.instance->memory().size(), 5 * 65536u);
    EXPECT_EQ(guest.read<uint32_t>(0), 1u);
    EXPECT_EQ(guest.read<uint32_t>(100), 0x6e726f62u);
    EXPECT_EQ(guest.read<uint32_t>(300000), 77u);
    ASSERT_TRUE(guest.instance->call("count").ok());
    EXPECT_EQ(guest.read<uint32_t>(0), 2u);
}

TEST_F(Snapshot, memory_is_mapped_from_the_image_and_never_written_to_it) {
    TestGuest guest(guest_wat(R"((func (export "count")
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))))"));
    ASSERT_TRUE(guest.instance->call("count").ok());
    const std::string path = freeze(*guest.instance);
    guest.instance = thaw(path, *guest.module, *guest.host).value();
    std::ifstream maps("/proc/self/maps");
    const std::string text((std::istreambuf_iterator<char>(maps)), {});
    EXPECT_NE(text.find(path), std::string::npos);
    ASSERT_TRUE(guest.instance->call("count").ok());
    EXPECT_EQ(guest.read<uint32_t>(0), 2u);
    const auto again = thaw(path, *guest.module, *guest.host).value();
    EXPECT_EQ(again->memory().base()[0], 1);
}

TEST_F(Snapshot, nothing_of_birth_runs_again) {
    TestGuest guest(R"((module (memory (export "memory") 1)
        (func $bump (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))))
        (start $bump) (func (export "_initialize") (call $bump))
        (func (export "driftwood_start")) (func (export "driftwood_complete") (param i64 i64))))");
    EXPECT_EQ(guest.read<uint32_t>(0), 2u);
    freeze_and_thaw(guest);
    EXPECT_EQ(guest.read<uint32_t>(0), 2u);
}

TEST_F(Snapshot, globals_of_every_type_come_back) {
    TestGuest guest(guest_wat(R"(
        (global $a (mut i32) (i32.const 1)) (global $b (mut i64) (i64.const 2)) (global $c (mut f32) (f32.const 3))
        (global $fixed i32 (i32.const 5))
        (global $d (mut f64) (f64.const 4)) (global $e (mut v128) (v128.const i64x2 5 6))
        (func (export "set")
            (global.set $a (i32.const -7)) (global.set $b (i64.const -8)) (global.set $c (f32.const -0.0))
            (global.set $d (f64.const 0x1.23456789abcdep-1022)) (global.set $e (v128.const i64x2 -9 10)))
        (func (export "show")
            (i32.store (i32.const 0) (global.get $a)) (i64.store (i32.const 8) (global.get $b))
            (f32.store (i32.const 16) (global.get $c)) (f64.store (i32.const 24) (global.get $d))
            (v128.store (i32.const 32) (global.get $e))))"));
    ASSERT_TRUE(guest.instance->call("set").ok());
    freeze_and_thaw(guest);
    ASSERT_TRUE(guest.instance->call("show").ok());
    EXPECT_EQ(guest.read<int32_t>(0), -7);
    EXPECT_EQ(guest.read<int64_t>(8), -8);
    EXPECT_EQ(guest.read<uint32_t>(16), 0x80000000u);
    EXPECT_EQ(guest.read<double>(24), 0x1.23456789abcdep-1022);
    EXPECT_EQ(guest.read<int64_t>(32), -9);
    EXPECT_EQ(guest.read<int64_t>(40), 10);
}

// Functions 0 (imported), 1, 2 and 3; the guest rearranges and grows its table.
const std::string kTableGuest = guest_wat(R"(
    (import "driftwood" "session_open" (func $open (result i64)))
    (table $t 3 10 funcref) (elem (i32.const 0) func $one $two)
    (table $other 1 funcref) (elem $decl declare func $three $open)
    (func $one (result i64) (i64.const 1)) (func $two (result i64) (i64.const 2))
    (func $three (result i64) (i64.const 3))
    (type $f (func (result i64)))
    (func (export "change")
        (table.set $t (i32.const 0) (ref.func $three))
        (table.set $t (i32.const 1) (ref.null func))
        (drop (table.grow $t (ref.func $two) (i32.const 2)))
        (table.set $other (i32.const 0) (ref.func $open)))
    (func (export "show")
        (i64.store (i32.const 0) (call_indirect $t (type $f) (i32.const 0)))
        (i32.store (i32.const 8) (ref.is_null (table.get $t (i32.const 1))))
        (i32.store (i32.const 12) (ref.is_null (table.get $t (i32.const 2))))
        (i64.store (i32.const 16) (call_indirect $t (type $f) (i32.const 3)))
        (i64.store (i32.const 24) (call_indirect $t (type $f) (i32.const 4)))
        (i32.store (i32.const 32) (table.size $t))
        (i64.store (i32.const 40) (call_indirect $other (type $f) (i32.const 0)))))");

TEST_F(Snapshot, tables_that_the_guest_changes_come_back) {
    TestGuest guest(kTableGuest);
    ASSERT_TRUE(guest.module->facts().mutates_tables);
    ASSERT_TRUE(guest.instance->call("change").ok());
    freeze_and_thaw(guest);
    ASSERT_TRUE(guest.instance->call("show").ok());
    EXPECT_EQ(guest.read<int64_t>(0), 3);
    EXPECT_EQ(guest.read<int32_t>(8), 1);
    EXPECT_EQ(guest.read<int32_t>(12), 1);
    EXPECT_EQ(guest.read<int64_t>(16), 2);
    EXPECT_EQ(guest.read<int64_t>(24), 2);
    EXPECT_EQ(guest.read<int32_t>(32), 5);
    EXPECT_EQ(guest.read<int64_t>(40), guest.host->answer);  // a call of the runtime, through the table
    EXPECT_EQ(guest.host->calls, std::vector<std::string>{"session_open"});
}

TEST_F(Snapshot, arguments_environment_and_descriptors_come_back) {
    TestGuest guest(guest_wat(R"(
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $flags (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (func (export "close") (drop (call $close (i32.const 2))) (drop (call $flags (i32.const 1) (i32.const 1))))
        (func (export "show")
            (drop (call $args (i32.const 0) (i32.const 64))) (drop (call $environ (i32.const 16) (i32.const 128)))
            (i32.store (i32.const 256) (call $stat (i32.const 1) (i32.const 512)))
            (i32.store (i32.const 260) (call $stat (i32.const 2) (i32.const 1024)))))"),
                    {}, {.args = {"first", "second"}, .environment = {"A=B"}});
    ASSERT_TRUE(guest.instance->call("close").ok());
    freeze_and_thaw(guest);
    ASSERT_TRUE(guest.instance->call("show").ok());
    const auto text = [&](uint32_t at) {
        return std::string(reinterpret_cast<char*>(guest.instance->memory().base()) + at);
    };
    EXPECT_EQ(text(64), "first");
    EXPECT_EQ(text(70), "second");
    EXPECT_EQ(text(128), "A=B");
    EXPECT_EQ(guest.read<int32_t>(256), 0);
    EXPECT_EQ(guest.read<uint16_t>(514), 1);
    EXPECT_EQ(guest.read<int32_t>(260), 8);  // EBADF
}

TEST_F(Snapshot, an_exit_code_comes_back) {
    TestGuest guest(guest_wat(R"((import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                                 (func (export "run") (call $exit (i32.const -3))))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    freeze_and_thaw(guest);
    EXPECT_EQ(guest.instance->exit_code(), -3);
    EXPECT_FALSE(guest.instance->start().ok());
}

TEST_F(Snapshot, a_dead_guest_is_not_saved) {
    TestGuest guest(guest_wat(R"((func (export "run") (unreachable)))"));
    EXPECT_FALSE(guest.instance->call("run").ok());
    file::SectionWriter image;
    file::Encoder state;
    EXPECT_EQ(guest.instance->save(image, state).error().code, ErrorCode::kTrap);
}

TEST_F(Snapshot, another_module_is_a_mismatch) {
    TestGuest guest(guest_wat("(global (mut i32) (i32.const 1))"));
    const std::string path = freeze(*guest.instance);
    const auto other = compile_wat(guest_wat("(global (mut i32) (i32.const 2))")).value();
    const auto thawed = thaw(path, *other, *guest.host);
    ASSERT_FALSE(thawed.ok());
    EXPECT_EQ(thawed.error().code, ErrorCode::kMismatch);
}

TEST_F(Snapshot, memory_beyond_the_new_limit_is_refused) {
    TestGuest guest(guest_wat(R"((func (export "grow") (drop (memory.grow (i32.const 4)))))"));
    ASSERT_TRUE(guest.instance->call("grow").ok());
    const auto thawed = thaw(freeze(*guest.instance), *guest.module, *guest.host, {.memory_bytes = 4 * 65536});
    ASSERT_FALSE(thawed.ok());
    EXPECT_EQ(thawed.error().code, ErrorCode::kLimit);
}

TEST_F(Snapshot, a_flipped_bit_in_memory_is_corrupt) {
    TestGuest guest(guest_wat(R"((data (i32.const 1000) "something"))"));
    const std::string path = freeze(*guest.instance);
    uint64_t offset = 0;
    {
        const auto image = file::SectionReader::open(path, file::SectionReader::Hashes::kRequired).value();
        offset = image.find("wasm.memory.0")->file_offset + 1003;
    }
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put('t' ^ 1);
    file.close();
    const auto thawed = thaw(path, *guest.module, *guest.host);
    ASSERT_FALSE(thawed.ok());
    EXPECT_EQ(thawed.error().code, ErrorCode::kCorrupt);
}

// A record as an enemy would write it: everything well formed but for what a case spoils.
struct Forged {
    file::Hash module;
    uint32_t abi = DRIFTWOOD_ABI_VERSION;
    std::string settings = "nan-canonical relaxed-simd-off";
    uint64_t memory_bytes = 65536;
    uint64_t tensor_bytes = 65536;
    struct Global {
        uint8_t kind;
        uint64_t low;
        uint64_t high;
    };
    std::vector<Global> globals = {{0, 5, 0}, {1, 6, 0}};
    std::vector<std::vector<uint32_t>> tables = {{1, 0}};  // function 0, null
    std::vector<std::string> args = {"a"};
    std::vector<std::pair<uint8_t, uint32_t>> descriptors = {{1, 0}, {1, 0}, {1, 0}};
    uint8_t exited = 0;
    int64_t exit_code = 0;
    bool trailing = false;

    std::vector<uint8_t> encode() const {
        file::Encoder state;
        state.begin_record("WASM", 1);
        state.bytes(module);
        state.u32(abi);
        state.str(settings);
        state.u64(memory_bytes);
        state.u64(globals.size());
        for (const Global& global : globals) {
            state.u8(global.kind);
            state.u64(global.low);
            state.u64(global.high);
        }
        state.u64(tables.size());
        for (const auto& table : tables) {
            state.u64(table.size());
            for (const uint32_t element : table) state.u32(element);
        }
        state.u64(args.size());
        for (const std::string& arg : args) state.str(arg);
        state.u64(0);
        state.u64(descriptors.size());
        for (const auto& [open, flags] : descriptors) {
            state.u8(open);
            state.u32(flags);
        }
        state.u8(exited);
        state.i64(exit_code);
        if (trailing) state.u8(0);
        state.end_record();
        return state.take();
    }
};

// Function 0 is in the table and 1 is not, nor can it ever be; 2 and 3 are exported and so may be.
const std::string kForgedGuest = guest_wat(R"(
    (global (mut i32) (i32.const 1)) (global (mut i64) (i64.const 1))
    (table 2 4 funcref) (elem (i32.const 0) func $in)
    (func $in) (func $out)
    (func (export "change") (table.set (i32.const 1) (table.get (i32.const 0)))))",
                                           R"((memory (export "memory") 1 4))");

TEST_F(Snapshot, a_forged_state_is_refused) {
    const auto module = compile_wat(kForgedGuest).value();
    TestHost host;
    const auto thaw_forged = [&](const std::function<void(Forged&)>& spoil) {
        Forged forged;
        forged.module = module->facts().hash;
        spoil(forged);
        file::SectionWriter image;
        image.add_owned("wasm.memory.0", file::DType::kU8, {forged.tensor_bytes},
                        std::vector<uint8_t>(forged.tensor_bytes));
        return thaw(write(image, forged.encode()), *module, host, {.memory_bytes = 3 * 65536, .table_elements = 3});
    };
    const auto fine = thaw_forged([](Forged&) {});
    ASSERT_TRUE(fine.ok()) << fine.error().message;

    const struct {
        const char* what;
        ErrorCode code;
        std::function<void(Forged&)> spoil;
    } cases[] = {
        {"module", ErrorCode::kMismatch, [](Forged& f) { f.module[31] ^= 1; }},
        {"ABI 0", ErrorCode::kMismatch, [](Forged& f) { f.abi = 0; }},
        {"ABI of the future", ErrorCode::kMismatch, [](Forged& f) { f.abi = 1000; }},
        {"settings", ErrorCode::kMismatch, [](Forged& f) { f.settings = "nan-any"; }},
        {"memory ≠ tensor", ErrorCode::kCorrupt, [](Forged& f) { f.memory_bytes = 2 * 65536; }},
        {"no whole pages", ErrorCode::kCorrupt, [](Forged& f) { f.memory_bytes = f.tensor_bytes = 65537; }},
        {"below minimum", ErrorCode::kCorrupt, [](Forged& f) { f.memory_bytes = f.tensor_bytes = 0; }},
        {"above maximum", ErrorCode::kCorrupt, [](Forged& f) { f.memory_bytes = f.tensor_bytes = 5 * 65536; }},
        {"above limit", ErrorCode::kLimit, [](Forged& f) { f.memory_bytes = f.tensor_bytes = 4 * 65536; }},
        {"global missing", ErrorCode::kCorrupt, [](Forged& f) { f.globals.pop_back(); }},
        {"global too many", ErrorCode::kCorrupt,
         [](Forged& f) {
             f.globals.push_back({0, 0, 0});
         }},
        {"global type", ErrorCode::kCorrupt, [](Forged& f) { f.globals[0].kind = 2; }},
        {"global funcref", ErrorCode::kCorrupt, [](Forged& f) { f.globals[1].kind = 5; }},
        {"i32 too wide", ErrorCode::kCorrupt, [](Forged& f) { f.globals[0].low = uint64_t{1} << 32; }},
        {"i64 too wide", ErrorCode::kCorrupt, [](Forged& f) { f.globals[1].high = 1; }},
        {"table missing", ErrorCode::kCorrupt, [](Forged& f) { f.tables.clear(); }},
        {"table too many", ErrorCode::kCorrupt,
         [](Forged& f) {
             f.tables.push_back({0, 0});
         }},
        {"table shrunk", ErrorCode::kCorrupt, [](Forged& f) { f.tables[0].pop_back(); }},
        {"table above limit", ErrorCode::kLimit, [](Forged& f) { f.tables[0].resize(4); }},
        {"table above maximum", ErrorCode::kLimit, [](Forged& f) { f.tables[0].resize(5); }},
        {"function not referenced", ErrorCode::kCorrupt, [](Forged& f) { f.tables[0][1] = 2; }},
        {"function unknown", ErrorCode::kCorrupt, [](Forged& f) { f.tables[0][1] = 0xffffffff; }},
        {"string with a zero byte", ErrorCode::kCorrupt, [](Forged& f) { f.args[0] = std::string("a\0", 2); }},
        {"strings too long", ErrorCode::kLimit, [](Forged& f) { f.args[0] = std::string(2 << 20, 'x'); }},
        {"descriptors", ErrorCode::kCorrupt,
         [](Forged& f) {
             f.descriptors.push_back({1, 0});
         }},
        {"descriptor open", ErrorCode::kCorrupt, [](Forged& f) { f.descriptors[0].first = 2; }},
        {"descriptor flags", ErrorCode::kCorrupt, [](Forged& f) { f.descriptors[0].second = 32; }},
        {"exited", ErrorCode::kCorrupt, [](Forged& f) { f.exited = 2; }},
        {"exit code alone", ErrorCode::kCorrupt, [](Forged& f) { f.exit_code = 1; }},
        {"exit code too wide", ErrorCode::kCorrupt, [](Forged& f) { f.exited = 1, f.exit_code = int64_t{1} << 31; }},
        {"trailing bytes", ErrorCode::kCorrupt, [](Forged& f) { f.trailing = true; }},
    };
    for (const auto& c : cases) {
        const auto thawed = thaw_forged(c.spoil);
        ASSERT_FALSE(thawed.ok()) << c.what;
        EXPECT_EQ(thawed.error().code, c.code) << c.what << ": " << thawed.error().message;
    }
}

TEST_F(Snapshot, a_damaged_state_never_ends_the_process) {
    TestGuest guest(kForgedGuest);
    file::Encoder encoder;
    {
        file::SectionWriter image;
        ASSERT_TRUE(guest.instance->save(image, encoder).ok());
    }
    const std::vector<uint8_t> good = encoder.take();
    file::SectionWriter writer;
    writer.add_owned("wasm.memory.0", file::DType::kU8, {65536}, std::vector<uint8_t>(65536));
    const auto image = file::SectionReader::open(write(writer, good), file::SectionReader::Hashes::kRequired).value();
    const auto restore = [&](std::span<const uint8_t> bytes) {
        file::Decoder state("actor.state", bytes);
        return Instance::restore(*guest.module, *guest.host, {}, image, state).ok();
    };
    EXPECT_TRUE(restore(good));
    for (size_t length = 0; length < good.size(); length++) {
        EXPECT_FALSE(restore(std::span(good).first(length))) << length;
    }
    std::mt19937 random(7);
    for (int round = 0; round < 500; round++) {
        std::vector<uint8_t> damaged = good;
        damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
        (void)restore(damaged);
    }
}

}  // namespace
}  // namespace driftwood::wasm
