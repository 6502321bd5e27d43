// What the boundary costs: a call from the guest into the runtime, a turn, a birth. Prints the best of several rounds,
// which is the figure least disturbed by the rest of the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include "wasm/test_host.h"

namespace driftwood::wasm {
namespace {

class QuietHost final : public TestHost {
  public:
    void log(int32_t, std::string_view) override {}
    int64_t session_tokens(int64_t session) override { return session; }
};

// Nanoseconds of one `action`, of the fastest round.
template <class Action>
double best_ns(int rounds, int repeats, const Action& action) {
    double best = std::numeric_limits<double>::max();
    for (int round = 0; round < rounds; round++) {
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; i++) action();
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
        best = std::min(best, took.count() / repeats);
    }
    return best;
}

// A guest whose export "run" does `body` a million times.
std::string loop_wat(std::string_view body) {
    return guest_wat(R"((import "driftwood" "session_tokens" (func $tokens (param i64) (result i64)))
        (import "driftwood" "log" (func $log (param i32 i32 i32) (result i32)))
        (global $sum (mut i64) (i64.const 0)) (func (export "run") (local $i i32) (loop $l )" +
                     std::string(body) + R"(
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))))");
}

double loop_ns(std::string_view body) {
    constexpr int kIterations = 1'000'000;
    QuietHost host;
    const auto module = compile_wat(loop_wat(body)).value();
    const auto instance = Instance::create(*module, host, {.turn_deadline_ms = 60'000}, {}).value();
    return best_ns(7, 1, [&] { instance->call("run").value(); }) / kIterations;
}

void run() {
    const double empty = loop_ns("(global.set $sum (i64.add (global.get $sum) (i64.const 1)))");
    const double call = loop_ns("(global.set $sum (i64.add (global.get $sum) (call $tokens (i64.const 1))))");
    const double text = loop_ns("(drop (call $log (i32.const 1) (i32.const 64) (i32.const 32)))");
    std::printf("guest -> runtime, one value      %8.1f ns (of it %.1f the loop)\n", call, empty);
    std::printf("guest -> runtime, a range        %8.1f ns\n", text);

    QuietHost host;
    const auto module =
        compile_wat(guest_wat(R"((data (i32.const 65536) "hello"))", R"((memory (export "memory") 4))"));
    const auto instance = Instance::create(**module, host, {}, {}).value();
    std::printf("runtime -> guest, an empty turn  %8.1f ns\n",
                best_ns(5, 20'000, [&] { instance->complete(1, 2).value(); }));
    std::printf("birth and end of an instance     %8.1f us\n",
                best_ns(5, 200, [&] { (void)Instance::create(**module, host, {}, {}).value(); }) / 1000);
}

}  // namespace
}  // namespace driftwood::wasm

int main() { driftwood::wasm::run(); }
