#include <gtest/gtest.h>

#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

constexpr int32_t kBadf = 8;
constexpr int32_t kFault = 21;
constexpr int32_t kInval = 28;
constexpr int32_t kNotsup = 58;
constexpr int32_t kSpipe = 70;
constexpr int32_t kNotcapable = 76;

// (import …) of a WASI function under its own name.
std::string wasi(std::string_view name, std::string_view type) {
    return "(import \"wasi_snapshot_preview1\" \"" + std::string(name) + "\" (func $" + std::string(name) + " " +
           std::string(type) + "))";
}

std::string text_at(TestGuest& guest, uint32_t offset, uint32_t length) {
    const auto bytes = guest.instance->range({offset, length}).value();
    return {bytes.begin(), bytes.end()};
}

TEST(Wasi, arguments_and_environment_arrive_as_c_strings) {
    const std::string two = "(param i32 i32) (result i32)";
    TestGuest guest(guest_wat(wasi("args_sizes_get", two) + wasi("args_get", two) + wasi("environ_sizes_get", two) +
                              wasi("environ_get", two) + R"(
        (func (export "run")
            (i32.store (i32.const 0) (i32.or
                (i32.or (call $args_sizes_get (i32.const 4) (i32.const 8))
                        (call $args_get (i32.const 256) (i32.const 512)))
                (i32.or (call $environ_sizes_get (i32.const 12) (i32.const 16))
                        (call $environ_get (i32.const 768) (i32.const 1024)))))))"),
                    {}, {.args = {"actor", "", "x y"}, .environment = {"NAME=driftwood"}});
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<uint32_t>(0), 0u);
    EXPECT_EQ(guest.read<uint32_t>(4), 3u);
    EXPECT_EQ(guest.read<uint32_t>(8), 11u);
    EXPECT_EQ(guest.read<uint32_t>(12), 1u);
    EXPECT_EQ(guest.read<uint32_t>(16), 15u);
    EXPECT_EQ(guest.read<uint32_t>(256), 512u);
    EXPECT_EQ(guest.read<uint32_t>(260), 518u);
    EXPECT_EQ(guest.read<uint32_t>(264), 519u);
    EXPECT_EQ(text_at(guest, 512, 11), std::string("actor\0\0x y\0", 11));
    EXPECT_EQ(text_at(guest, 1024, 15), std::string("NAME=driftwood\0", 15));
}

TEST(Wasi, strings_that_do_not_fit_in_memory_are_a_fault) {
    TestGuest guest(guest_wat(wasi("args_get", "(param i32 i32) (result i32)") + R"((func (export "run")
        (i32.store (i32.const 0) (call $args_get (i32.const 65532) (i32.const 100)))
        (i32.store (i32.const 4) (call $args_get (i32.const 100) (i32.const 65532)))))"),
                    {}, {.args = {"one", "two"}, .environment = {}});
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<int32_t>(0), kFault);
    EXPECT_EQ(guest.read<int32_t>(4), kFault);
}

TEST(Wasi, refuses_arguments_with_a_zero_byte_or_too_many) {
    const auto module = compile_wat(guest_wat("")).value();
    TestHost host;
    const auto create = [&](WasiOptions wasi) { return Instance::create(*module, host, {}, std::move(wasi)); };
    EXPECT_EQ(create({.args = {std::string("a\0b", 3)}, .environment = {}}).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(create({.args = {}, .environment = {std::string(2 << 20, 'x')}}).error().code, ErrorCode::kLimit);
}

const std::string kWrite = wasi("fd_write", "(param i32 i32 i32 i32) (result i32)");

TEST(Wasi, stdout_and_stderr_go_to_the_host_in_order) {
    TestGuest guest(guest_wat(kWrite + R"((func (export "run")
        (i32.store (i32.const 0) (call $fd_write (i32.const 1) (i32.const 64) (i32.const 3) (i32.const 8)))
        (i32.store (i32.const 4) (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 12))))
        (data (i32.const 64) "\c8\00\00\00\03\00\00\00" "\00\00\00\00\00\00\00\00" "\cb\00\00\00\04\00\00\00")
        (data (i32.const 200) "oneTWO\ff"))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<int32_t>(0), 0);
    EXPECT_EQ(guest.read<int32_t>(8), 7);
    EXPECT_EQ(guest.read<int32_t>(12), 3);
    EXPECT_EQ(guest.host->calls,
              (std::vector<std::string>{"wasi_write 1 one", "wasi_write 1 TWO\xff", "wasi_write 2 one"}));
}

TEST(Wasi, a_bad_write_writes_nothing) {
    // The second of two pieces reaches beyond memory; then the array itself does; then there are too many pieces.
    TestGuest guest(guest_wat(kWrite + R"((func (export "run")
        (i32.store (i32.const 0) (call $fd_write (i32.const 1) (i32.const 64) (i32.const 2) (i32.const 32)))
        (i32.store (i32.const 4) (call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 32)))
        (i32.store (i32.const 8) (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1025) (i32.const 32)))
        (i32.store (i32.const 12) (call $fd_write (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 32)))
        (i32.store (i32.const 16) (call $fd_write (i32.const 3) (i32.const 64) (i32.const 1) (i32.const 32)))
        (i32.store (i32.const 20) (call $fd_write (i32.const -1) (i32.const 64) (i32.const 1) (i32.const 32))))
        (data (i32.const 64) "\c8\00\00\00\03\00\00\00" "\ff\ff\00\00\02\00\00\00"))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    const int32_t want[] = {kFault, kFault, kInval, kBadf, kBadf, kBadf};
    for (uint32_t i = 0; i < std::size(want); i++) EXPECT_EQ(guest.read<int32_t>(4 * i), want[i]) << i;
    EXPECT_TRUE(guest.host->calls.empty());
}

TEST(Wasi, one_write_takes_a_bounded_amount) {
    TestGuest guest(guest_wat(kWrite + R"((func (export "run")
        (i32.store (i32.const 0) (call $fd_write (i32.const 1) (i32.const 64) (i32.const 2) (i32.const 32))))
        (data (i32.const 64) "\00\00\00\00\00\00\0c\00" "\00\00\00\00\00\00\0c\00"))",
                              R"((memory (export "memory") 16))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<uint32_t>(32), 1u << 20);
    EXPECT_EQ(guest.host->output.size(), size_t{1} << 20);
}

TEST(Wasi, stdin_is_at_its_end) {
    TestGuest guest(guest_wat(wasi("fd_read", "(param i32 i32 i32 i32) (result i32)") + R"((func (export "run")
        (i32.store (i32.const 8) (i32.const 99))
        (i32.store (i32.const 0) (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (call $fd_read (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 12))))
        (data (i32.const 64) "\c8\00\00\00\03\00\00\00"))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<int32_t>(0), 0);
    EXPECT_EQ(guest.read<int32_t>(8), 0);
    EXPECT_EQ(guest.read<int32_t>(4), kBadf);
}

TEST(Wasi, descriptors_look_like_a_terminal_and_can_be_closed) {
    TestGuest guest(guest_wat(kWrite + wasi("fd_fdstat_get", "(param i32 i32) (result i32)") +
                              wasi("fd_fdstat_set_flags", "(param i32 i32) (result i32)") +
                              wasi("fd_close", "(param i32) (result i32)") +
                              wasi("fd_seek", "(param i32 i64 i32 i32) (result i32)") + R"((func (export "run")
        (i32.store (i32.const 0) (call $fd_fdstat_set_flags (i32.const 1) (i32.const 4)))
        (i32.store (i32.const 4) (call $fd_fdstat_get (i32.const 1) (i32.const 256)))
        (i32.store (i32.const 8) (call $fd_seek (i32.const 1) (i64.const 0) (i32.const 1) (i32.const 512)))
        (i32.store (i32.const 12) (call $fd_close (i32.const 1)))
        (i32.store (i32.const 16) (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 32)))
        (i32.store (i32.const 20) (call $fd_close (i32.const 1)))
        (i32.store (i32.const 24) (call $fd_fdstat_set_flags (i32.const 2) (i32.const 32)))
        (i32.store (i32.const 28) (call $fd_seek (i32.const 7) (i64.const 0) (i32.const 1) (i32.const 512)))))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    const int32_t want[] = {0, 0, kSpipe, 0, kBadf, kBadf, kInval, kBadf};
    for (uint32_t i = 0; i < std::size(want); i++) EXPECT_EQ(guest.read<int32_t>(4 * i), want[i]) << i;
    EXPECT_EQ(guest.read<uint8_t>(256), 2);           // character device
    EXPECT_EQ(guest.read<uint16_t>(258), 4);          // the flags just set
    EXPECT_EQ(guest.read<uint64_t>(264) & 0x24, 0u);  // neither seek nor tell: isatty() says yes
}

TEST(Wasi, clock_and_random_are_the_actors_own) {
    TestGuest guest(guest_wat(wasi("clock_time_get", "(param i32 i64 i32) (result i32)") +
                              wasi("clock_res_get", "(param i32 i32) (result i32)") +
                              wasi("random_get", "(param i32 i32) (result i32)") + R"((func (export "run")
        (i32.store (i32.const 0) (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 64)))
        (i32.store (i32.const 4) (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 72)))
        (i32.store (i32.const 8) (call $clock_time_get (i32.const 4) (i64.const 0) (i32.const 80)))
        (i32.store (i32.const 12) (call $random_get (i32.const 97) (i32.const 2)))
        (i32.store (i32.const 16) (call $clock_res_get (i32.const 1) (i32.const 88)))))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<int64_t>(64), guest.host->now);
    EXPECT_EQ(guest.read<int64_t>(72), guest.host->now);
    EXPECT_EQ(guest.read<int32_t>(8), kInval);
    EXPECT_EQ(guest.read<uint32_t>(96), 0x00a5a500u);
    EXPECT_GT(guest.read<int64_t>(88), 0);
}

TEST(Wasi, proc_exit_stops_the_actor_with_its_code) {
    TestGuest guest(guest_wat(wasi("proc_exit", "(param i32)") + R"((func (export "run")
        (call $proc_exit (i32.const 3)) (i32.store (i32.const 0) (i32.const 1))))"));
    EXPECT_FALSE(guest.instance->exit_code().has_value());
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.instance->exit_code(), 3);
    EXPECT_EQ(guest.read<int32_t>(0), 0);  // nothing after it ran
    const auto later = guest.instance->start();
    ASSERT_FALSE(later.ok());
    EXPECT_NE(later.error().message.find("exit code 3"), std::string::npos);
}

TEST(Wasi, proc_exit_during_birth_stops_the_actor_before_its_first_turn) {
    TestGuest guest(guest_wat(wasi("proc_exit", "(param i32)") + R"(
        (func $f (call $proc_exit (i32.const -1))) (start $f)
        (func (export "_initialize") (i32.store (i32.const 0) (i32.const 1))))"));
    EXPECT_EQ(guest.instance->exit_code(), -1);
    EXPECT_EQ(guest.read<int32_t>(0), 0);
}

TEST(Wasi, there_are_no_files_and_no_polling) {
    TestGuest guest(guest_wat(wasi("fd_prestat_get", "(param i32 i32) (result i32)") +
                              wasi("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)") +
                              wasi("poll_oneoff", "(param i32 i32 i32 i32) (result i32)") + R"((func (export "run")
        (i32.store (i32.const 0) (call $fd_prestat_get (i32.const 3) (i32.const 64)))
        (i32.store (i32.const 4) (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0)
            (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)))
        (i32.store (i32.const 8) (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 64)))))"));
    ASSERT_TRUE(guest.instance->call("run").ok());
    EXPECT_EQ(guest.read<int32_t>(0), kBadf);
    EXPECT_EQ(guest.read<int32_t>(4), kNotcapable);
    EXPECT_EQ(guest.read<int32_t>(8), kNotsup);
}

}  // namespace
}  // namespace driftwood::wasm
