// For tests: a guest that makes whatever calls it is told to, so that every import can be called with any arguments, in
// any order, from C++. Its text is made from the table of imports.
//
// It waits for messages of at most kCallerCapacity bytes, which it keeps at kCallerMessage: a list of calls, each u32
// index into driftwood_calls(), u32 unused, and kCallerArguments i64. It makes them all in one turn and replies with
// their results (i64 each), that reply being the last. For every other completion it replies with operation and status.
// kCallerFree and up is for whoever tells it what to do. It traps when a result or status is negative and no errno of
// guest.h.
#pragma once

#include <cstdint>
#include <string>

#include "driftwood/guest.h"
#include "wasm/host_calls.h"

namespace driftwood::wasm {

inline constexpr uint32_t kCallerMessage = 1 << 16;
inline constexpr uint32_t kCallerCapacity = 1 << 16;
inline constexpr uint32_t kCallerArguments = 6;
inline constexpr uint32_t kCallerBytes = 8 + 8 * kCallerArguments;  // of one call
inline constexpr uint32_t kCallerFree = 3 << 16;
inline constexpr uint32_t kCallerMemory = 5 << 16;

inline constexpr int32_t kErrnos[] = {
    DRIFTWOOD_EINTERRUPTED, DRIFTWOOD_EIO,       DRIFTWOOD_E2BIG,   DRIFTWOOD_EBADF,     DRIFTWOOD_ENOMEM,
    DRIFTWOOD_EFAULT,       DRIFTWOOD_EBUSY,     DRIFTWOOD_EINVAL,  DRIFTWOOD_ENOSPC,    DRIFTWOOD_ENOSYS,
    DRIFTWOOD_EOVERFLOW,    DRIFTWOOD_ECANCELED, DRIFTWOOD_EFORKED, DRIFTWOOD_ENOTFINITE};

inline std::string caller_guest_wat() {
    const auto type = [](Slot slot) { return slot == Slot::kI64 ? "i64" : "i32"; };
    // Blocks nest with the first call's innermost: a branch to $call<i> goes on behind that block, where the call
    // stands.
    std::string imports, blocks = "(block $none", table, cases;
    const auto calls = driftwood_calls();
    for (size_t i = 0; i < calls.size(); ++i) {
        const std::string name = "$" + std::string(calls[i].name);
        imports += "(import \"driftwood\" \"" + std::string(calls[i].name) + "\" (func " + name;
        for (const Slot slot : calls[i].parameters) imports += std::string(" (param ") + type(slot) + ")";
        imports += std::string(" (result ") + type(*calls[i].result) + ")))\n";
        blocks = "(block $call" + std::to_string(i) + " " + blocks;
        table += " $call" + std::to_string(i);
        std::string call = "(call " + name;
        for (size_t j = 0; j < calls[i].parameters.size(); ++j) {
            const bool wide = calls[i].parameters[j] == Slot::kI64;
            call += std::string(wide ? " (i64.load" : " (i32.load") + " offset=" + std::to_string(8 + 8 * j) +
                    " (local.get $at))";
        }
        call += ")";
        if (*calls[i].result != Slot::kI64) call = "(i64.extend_i32_s " + call + ")";
        cases += ") (return (call $checked " + call + "))\n";
    }
    std::string documented;  // whether the local $e is an errno of guest.h
    for (const int32_t number : kErrnos) {
        const std::string is = "(i64.eq (local.get $e) (i64.const " + std::to_string(number) + "))";
        documented = documented.empty() ? is : "(i32.or " + documented + " " + is + ")";
    }
    return "(module " + imports + R"((memory (export "memory") )" + std::to_string(kCallerMemory >> 16) + R"()
      (global $listening (mut i64) (i64.const 0))
      (func $checked (param $r i64) (result i64) (local $e i64)
        (local.set $e (i64.sub (i64.const 0) (local.get $r)))
        (if (i64.gt_s (local.get $e) (i64.const 0)) (then
          (if (i64.gt_s (local.get $e) (i64.const 65535)) (then
            (local.set $e (i64.and (local.get $e) (i64.const 65535)))
            (if (i64.ne (local.get $e) (i64.const )" +
           std::to_string(DRIFTWOOD_E2BIG) + R"()) (then (unreachable)))))
          (if (i32.eqz )" +
           documented + R"() (then (unreachable)))))
        (local.get $r))
      (func $one (param $at i32) (result i64) )" +
           blocks + " (br_table" + table + " $none (i32.load (local.get $at)))) (return (i64.const -1))" + cases + R"()
      (func $listen (global.set $listening (call $receive (i32.const )" +
           std::to_string(kCallerMessage) + ") (i32.const " + std::to_string(kCallerCapacity) + R"())))
      (func (export "driftwood_start") (call $listen))
      (func (export "driftwood_complete") (param $op i64) (param $status i64) (local $at i32) (local $out i32)
        (drop (call $checked (local.get $status)))
        (if (i64.ne (local.get $op) (global.get $listening)) (then
          (i64.store (i32.const 0) (local.get $op))
          (i64.store (i32.const 8) (local.get $status))
          (drop (call $reply (i32.const 0) (i32.const 16) (i32.const 0)))
          (return)))
        (local.set $at (i32.const )" +
           std::to_string(kCallerMessage) + R"())
        (local.set $out (i32.const 16))
        (block $done (loop $more
          (br_if $done (i64.gt_s (i64.extend_i32_u (i32.add (local.get $at) (i32.const )" +
           std::to_string(kCallerBytes) + R"()))
                                 (i64.add (i64.const )" +
           std::to_string(kCallerMessage) + R"() (local.get $status))))
          (i64.store (local.get $out) (call $one (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const )" +
           std::to_string(kCallerBytes) + R"()))
          (local.set $out (i32.add (local.get $out) (i32.const 8)))
          (br $more)))
        (drop (call $reply (i32.const 16) (i32.sub (local.get $out) (i32.const 16)) (i32.const 1)))
        (call $listen))))";
}

}  // namespace driftwood::wasm
