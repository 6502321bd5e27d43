// What crosses between guest and runtime: every import, with good arguments, bad ranges and at the wrong time.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <stdexcept>

#include "wasm/host_calls.h"
#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

using Lines = std::vector<std::string>;

std::string wat_type(Slot slot) { return slot == Slot::kI64 ? "i64" : "i32"; }

std::string import_wat(const HostCall& call) {
    std::string wat = "(import \"" + std::string(call.module) + "\" \"" + std::string(call.name) + "\" (func $f";
    for (const Slot slot : call.parameters) wat += " (param " + wat_type(slot) + ")";
    if (call.result) wat += " (result " + wat_type(*call.result) + ")";
    return wat + "))";
}

// Calls $f with these arguments; its result, widened, goes to address 0x100.
std::string call_wat(const HostCall& call, const std::vector<int64_t>& arguments) {
    std::string wat = "(call $f";
    for (size_t i = 0; i < arguments.size(); i++) {
        wat += " (" + wat_type(call.parameters[i]) + ".const " + std::to_string(arguments[i]) + ")";
    }
    wat += ")";
    if (!call.result) return wat;
    return "(i64.store (i32.const 0x100) " + (*call.result == Slot::kI64 ? wat : "(i64.extend_i32_s " + wat + ")") +
           ")";
}

constexpr uint32_t kResultAt = 0x100;

// Runs one call of one import in a guest of one page whose first bytes are `data`.
struct OneCall {
    TestGuest guest;
    int64_t result;

    OneCall(const HostCall& call, const std::vector<int64_t>& arguments, const std::string& data = {})
        : guest(guest_wat(import_wat(call) + "(func (export \"run\") " + call_wat(call, arguments) + ")" +
                          "(data (i32.const 0) \"" + data + "\")")) {
        EXPECT_TRUE(guest.instance->call("run").ok()) << call.name;
        result = guest.read<int64_t>(kResultAt);
    }
};

OneCall driftwood_call(std::string_view name, const std::vector<int64_t>& arguments, const std::string& data = {}) {
    const HostCall* call = find_host_call("driftwood", name);
    CHECK(call != nullptr);
    return {*call, arguments, data};
}

TEST(Boundary, every_call_hands_over_its_arguments) {
    const struct {
        std::string_view name;
        std::vector<int64_t> arguments;
        std::string line;
    } cases[] = {
        {"log", {2, 0, 5}, "log 2 abcde"},
        {"random", {512, 16}, "random 16"},
        {"reply", {1, 3, 1}, "reply bcd 1"},
        {"reply", {1, 3, 0}, "reply bcd 0"},
        {"receive", {4096, 100}, "receive 4096 100"},
        {"receive", {65536, 0}, "receive 65536 0"},
        {"cancel", {INT64_MIN}, "cancel -9223372036854775808"},
        {"session_open", {}, "session_open"},
        {"session_close", {-5}, "session_close -5"},
        {"session_append", {77, 0, 2, 2, 3}, "session_append 77 ab cde"},
        {"session_tokens", {3}, "session_tokens 3"},
        {"session_fork", {3}, "session_fork 3"},
        {"session_rewind", {3, -1}, "session_rewind 3 4294967295"},
        {"sleep", {INT64_MAX}, "sleep 9223372036854775807"},
        {"tokenize", {1, 3, 0x801, 9}, "tokenize bcd 9"},
        {"detokenize", {0x801, 2, 0, 5}, "detokenize [0 0] 5"},
        {"token_ends_turn", {-1}, "token_ends_turn 4294967295"},
        {"session_rewind_tokens", {3, 7}, "session_rewind_tokens 3 7"},
        {"session_answer", {3}, "session_answer 3"},
        {"decode", {3, 0, 1, 65532, 1}, "decode 3 [1684234849] 65532 1"},
        {"prefill", {9}, "prefill 9"},
        {"next", {9, 1, 65535}, "next 9 1 65535"},
        {"stream_close", {9}, "stream_close 9"},
    };
    for (const auto& c : cases) {
        OneCall one = driftwood_call(c.name, c.arguments, "abcdefg");
        EXPECT_EQ(one.guest.host->calls, Lines{c.line});
        EXPECT_EQ(one.result, c.name == "log" || c.name == "random" ? 0 : one.guest.host->answer) << c.name;
    }
    EXPECT_EQ(driftwood_call("abi_version", {}).result, DRIFTWOOD_ABI_VERSION);
    EXPECT_EQ(driftwood_call("now", {}).result, 1'000'000'000);
    EXPECT_EQ(driftwood_call("random", {0x200, 2}).guest.read<uint32_t>(0x200), 0x0000a5a5u);
}

// "name (i32, i64) -> i32" of every row in the page's table of calls.
std::set<std::string> calls_of_page() {
    std::ifstream file(DRIFTWOOD_ABI_PAGE);
    std::set<std::string> calls;
    for (std::string line; std::getline(file, line);) {
        // | `name` | `(first: i32, second: i64) -> i32` | yes or no | …
        const size_t parameters = line.find("` | `(");
        const size_t result = line.find(") -> ");
        const size_t end = line.find('`', result);
        if (!line.starts_with("| `") || parameters == std::string::npos || result == std::string::npos) continue;
        if (!line.substr(end).starts_with("` | yes |") && !line.substr(end).starts_with("` | no |")) continue;
        std::string call = line.substr(3, parameters - 3) + " ";
        for (size_t at = parameters + 5; at < result;) {
            const size_t colon = std::min(line.find(": ", at), result);
            if (colon == result) {
                call += line.substr(at, result - at);
                break;
            }
            call += line[at] == '(' ? "(" : "";
            const size_t comma = std::min(line.find(", ", colon), result);
            call += line.substr(colon + 2, comma - colon - 2) + (comma < result ? ", " : "");
            at = comma == result ? result : comma + 2;
        }
        calls.insert(call + ") -> (" + line.substr(result + 5, end - result - 5) + ")");
    }
    return calls;
}

TEST(Boundary, the_runtime_has_the_calls_of_its_page_and_no_others) {
    std::set<std::string> calls;
    for (const HostCall& call : driftwood_calls()) calls.insert(std::string(call.name) + " " + signature_text(call));
    EXPECT_EQ(calls, calls_of_page());
    EXPECT_TRUE(calls.contains("cancel (i64) -> (i32)"));
}

TEST(Boundary, a_call_of_later_is_refused_by_name) {
    const auto module = compile_wat(guest_wat(R"((import "driftwood" "spawn" (func $f (param i32) (result i64))))"));
    ASSERT_FALSE(module.ok());
    EXPECT_NE(module.error().message.find("driftwood.spawn"), std::string::npos) << module.error().message;
}

TEST(Boundary, log_checks_its_level_and_length) {
    EXPECT_EQ(driftwood_call("log", {4, 0, 1}).result, -DRIFTWOOD_EINVAL);
    EXPECT_EQ(driftwood_call("log", {-1, 0, 1}).result, -DRIFTWOOD_EINVAL);
    OneCall longest = driftwood_call("log", {0, 0, 65536});
    EXPECT_EQ(longest.result, 0);
    EXPECT_EQ(longest.guest.host->calls.size(), 1u);
    OneCall bytes = driftwood_call("log", {1, 0, 3}, "\\ff\\00\\c3");  // need not be text
    EXPECT_EQ(bytes.guest.host->calls.at(0), std::string("log 1 \xff\0\xc3", 9));
}

TEST(Boundary, structs_are_versioned_by_size) {
    // temperature 1, top_p 0.5, top_k 3, max_tokens 4, seed 5, then 8 bytes that version 1 does not know
    const std::string options =
        "\\00\\00\\80\\3f\\00\\00\\00\\3f\\03\\00\\00\\00\\04\\00\\00\\00\\05\\00\\00\\00\\00\\00\\00\\00"
        "\\00\\00\\00\\00\\00\\00\\00\\01";
    const auto generate = [&](int64_t size) { return driftwood_call("generate", {6, 0, size}, options); };
    EXPECT_EQ(generate(24).guest.host->calls, Lines{"generate 6 1.000000 0.500000 3 4 5"});
    EXPECT_EQ(generate(16).guest.host->calls, Lines{"generate 6 1.000000 0.500000 3 4 0"});
    EXPECT_EQ(generate(4).guest.host->calls, Lines{"generate 6 1.000000 0.000000 0 0 0"});
    EXPECT_EQ(generate(31).guest.host->calls, Lines{"generate 6 1.000000 0.500000 3 4 5"});
    EXPECT_EQ(generate(32).result, -DRIFTWOOD_ENOSYS);
    EXPECT_EQ(generate(32).guest.host->calls, Lines{});
    EXPECT_EQ(generate(0).result, -DRIFTWOOD_EINVAL);
    EXPECT_EQ(generate(5000).result, -DRIFTWOOD_EOVERFLOW);
    // Tensor operations: every field from its place, those left out 0, a byte too many refused.
    std::string words;
    for (int i = 1; i <= 15; ++i) words += "\\0" + std::string(1, "0123456789abcdef"[i]) + "\\00\\00\\00";
    const auto gemm = [&](int64_t size) { return driftwood_call("gemm", {0, size}, words); };
    EXPECT_EQ(gemm(56).guest.host->calls, Lines{"gemm 1 2 3 4 5 6 7 8 9 10 11 12 13 14"});
    EXPECT_EQ(gemm(36).guest.host->calls, Lines{"gemm 1 2 3 4 5 6 7 8 9 0 0 0 0 0"});
    EXPECT_EQ(gemm(57).result, -DRIFTWOOD_ENOSYS);
    const auto rows = [&](int64_t size) { return driftwood_call("rows", {0, size}, words); };
    EXPECT_EQ(rows(36).guest.host->calls, Lines{"rows 1 2 3 4 5 6 7 8 9 0.000000"});
    EXPECT_EQ(rows(41).result, -DRIFTWOOD_ENOSYS);
}

TEST(Boundary, a_struct_for_the_guest_is_cut_to_its_size_and_zeros_follow) {
    const std::string old = "\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa\\aa";
    const auto info = [&](int64_t size) { return driftwood_call("model_info", {0, size}, old); };
    OneCall whole = info(12);
    EXPECT_EQ(whole.result, 0);
    EXPECT_EQ(whole.guest.read<uint32_t>(0), 320u);
    EXPECT_EQ(whole.guest.read<uint32_t>(4), 512u);
    EXPECT_EQ(whole.guest.read<uint64_t>(8), 0xaaaaaaaa00000000u);
    EXPECT_EQ(info(4).guest.read<uint64_t>(0), 0xaaaaaaaa00000140u);
    EXPECT_EQ(info(0).result, -DRIFTWOOD_EINVAL);
    EXPECT_EQ(info(5000).result, -DRIFTWOOD_EOVERFLOW);
}

// Arguments that are in order for every call, but for what the test spoils.
std::vector<int64_t> good_arguments(const HostCall& call) {
    std::vector<int64_t> arguments;
    for (const Slot slot : call.parameters) {
        arguments.push_back(slot == Slot::kPointer ? 0x800 : slot == Slot::kLength || slot == Slot::kCount ? 8 : 1);
    }
    return arguments;
}

TEST(Boundary, a_range_outside_memory_is_a_fault_in_every_call) {
    constexpr std::pair<int64_t, int64_t> kBadRanges[] = {
        {65536, 1},
        {65529, 8},
        {0, 65537},
        {0x800, 0xffffffff},
        {0xffffffff, 8},
        {0xffffffff, 0xffffffff},
        {0x80000000, 0x80000000},
        {0xfffffff8, 8},
        {65537, 0},
    };
    size_t tried = 0;
    for (const HostCall& call : host_calls()) {
        for (size_t slot = 0; slot < call.parameters.size(); slot++) {
            if (call.parameters[slot] != Slot::kPointer) continue;
            const bool has_length = slot + 1 < call.parameters.size() && (call.parameters[slot + 1] == Slot::kLength ||
                                                                          call.parameters[slot + 1] == Slot::kCount);
            for (const auto& [offset, length] : kBadRanges) {
                if (!has_length && offset <= 65536) continue;
                auto arguments = good_arguments(call);
                arguments[slot] = offset;
                if (has_length) arguments[slot + 1] = length;
                OneCall one(call, arguments);
                EXPECT_EQ(one.result, call.fault) << call.name << " " << offset << "+" << length;
                EXPECT_EQ(one.guest.host->calls, Lines{}) << call.name;
                tried++;
            }
        }
    }
    EXPECT_GT(tried, 100u);
}

TEST(Boundary, an_output_that_only_begins_inside_memory_is_a_fault) {
    for (const HostCall& call : wasi_calls()) {
        for (size_t slot = 0; slot < call.parameters.size(); slot++) {
            const bool has_length = slot + 1 < call.parameters.size() && call.parameters[slot + 1] == Slot::kLength;
            if (call.parameters[slot] != Slot::kPointer || has_length) continue;
            auto arguments = good_arguments(call);
            arguments[slot] = 65536;  // the end itself: nothing fits there
            const OneCall one(call, arguments);
            // Arrays (iovecs, argument pointers) may be empty there; single outputs may not.
            if (one.result != call.fault) {
                EXPECT_TRUE(std::set<std::string_view>({"args_get", "environ_get", "fd_pread", "fd_pwrite", "fd_read",
                                                        "poll_oneoff", "sock_recv", "sock_send"})
                                .contains(call.name))
                    << call.name;
            }
        }
    }
}

TEST(Boundary, only_calls_that_never_wait_work_during_birth) {
    const std::set<std::string_view> always = {"abi_version", "log", "now", "random"};
    for (const HostCall& call : driftwood_calls()) {
        const std::string action = call_wat(call, good_arguments(call));
        for (const std::string& birth :
             {"(func $b " + action + ") (start $b)", "(func (export \"_initialize\") " + action + ")"}) {
            TestGuest guest(guest_wat(import_wat(call) + birth));
            if (always.contains(call.name)) {
                EXPECT_GE(guest.read<int64_t>(kResultAt), 0) << call.name;
            } else {
                EXPECT_EQ(guest.read<int64_t>(kResultAt), -DRIFTWOOD_EINVAL) << call.name;
                EXPECT_EQ(guest.host->calls, Lines{}) << call.name;
            }
        }
    }
}

TEST(Boundary, an_exception_of_the_runtime_ends_the_turn_not_the_process) {
    class ThrowingHost final : public TestHost {
      public:
        int64_t session_open() override { throw std::runtime_error("out of luck"); }
    };
    const auto module = compile_wat(guest_wat(R"((import "driftwood" "session_open" (func $f (result i64)))
                                                 (func (export "run") (drop (call $f))))"))
                            .value();
    ThrowingHost host;
    const auto instance = Instance::create(*module, host, {}, {}).value();
    const auto result = instance->call("run");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kInternal);
    EXPECT_NE(result.error().message.find("run: the runtime failed: out of luck; at "), std::string::npos)
        << result.error().message;
    EXPECT_FALSE(instance->start().ok());
}

TEST(Boundary, range_follows_the_size_of_memory) {
    TestGuest guest(guest_wat(R"((func (export "grow") (drop (memory.grow (i32.const 1)))))"));
    EXPECT_TRUE(guest.instance->range({65535, 1}).has_value());
    EXPECT_FALSE(guest.instance->range({65535, 2}).has_value());
    EXPECT_FALSE(guest.instance->range({0xffffffff, 0xffffffff}).has_value());
    ASSERT_TRUE(guest.instance->call("grow").ok());
    EXPECT_EQ(guest.instance->range({65535, 2})->data(), guest.instance->memory().base() + 65535);
}

}  // namespace
}  // namespace driftwood::wasm
