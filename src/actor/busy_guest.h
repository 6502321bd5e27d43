// For tests: a guest with everything at once that may wait in an actor: a prefill of several steps, two GEMMs and a
// softmax each of which takes what the one before it made, two receives, a stream whose session is gone, an unfinished
// line on stderr.
//
// For every completion it replies with the operation, its status, both receive buffers and all four matrices.
#pragma once

#include "actor/test_world.h"

namespace driftwood::actor {

inline constexpr const char* kBusyGuest = R"((module
  (import "driftwood" "receive" (func $receive (param i32 i32) (result i64)))
  (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
  (import "driftwood" "session_open" (func $open (result i64)))
  (import "driftwood" "session_close" (func $close (param i64) (result i32)))
  (import "driftwood" "session_append" (func $append (param i64 i32 i32 i32 i32) (result i64)))
  (import "driftwood" "generate" (func $generate (param i64 i32 i32) (result i64)))
  (import "driftwood" "prefill" (func $prefill (param i64) (result i64)))
  (import "driftwood" "next" (func $next (param i64 i32 i32) (result i64)))
  (import "driftwood" "gemm" (func $gemm (param i32 i32) (result i64)))
  (import "driftwood" "rows" (func $rows (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "user")
  (data (i32.const 32) "err\n")
  ;; C += A B, then D += C transposed(B), then softmax of D's rows, in place: as driftwood_gemm and driftwood_rows
  (data (i32.const 100) "\00\10\00\00\10\10\00\00\20\10\00\00\02\00\00\00\02\00\00\00"
                        "\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\00\00\00\00"
                        "\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00")
  (data (i32.const 160) "\20\10\00\00\10\10\00\00\30\10\00\00\02\00\00\00\02\00\00\00"
                        "\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\00\00\00\00"
                        "\00\00\00\00\00\00\00\00\05\00\00\00\00\00\00\00")
  (data (i32.const 220) "\04\00\00\00\30\10\00\00\00\00\00\00\30\10\00\00\02\00\00\00"
                        "\02\00\00\00\02\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00")
  (data (i32.const 4096) "\00\00\80\3f\00\00\00\40\00\00\40\40\00\00\00\3f"
                         "\00\00\00\40\00\00\80\3f\00\00\00\3f\00\00\40\40"
                         "\00\00\80\3f\00\00\80\3f\00\00\80\3f\00\00\80\3f"
                         "\00\00\00\40\00\00\00\40\00\00\00\40\00\00\00\40")
  (global $first (mut i64) (i64.const 0))
  (global $second (mut i64) (i64.const 0))
  (global $prefill_op (mut i64) (i64.const 0))
  (global $stream (mut i64) (i64.const 0))
  (func $write (param $length i32)
    (i32.store (i32.const 600) (i32.const 32))
    (i32.store (i32.const 604) (local.get $length))
    (drop (call $fd_write (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 620))))
  (func (export "driftwood_start")
    (local $session i64)
    (memory.fill (i32.const 8192) (i32.const 120) (i32.const 200))  ;; a text of several chunks
    (local.set $session (call $open))
    (drop (call $append (local.get $session) (i32.const 16) (i32.const 4) (i32.const 8192) (i32.const 200)))
    (global.set $prefill_op (call $prefill (local.get $session)))
    (local.set $session (call $open))
    (drop (call $append (local.get $session) (i32.const 16) (i32.const 4) (i32.const 8192) (i32.const 5)))
    (global.set $stream (call $generate (local.get $session) (i32.const 300) (i32.const 24)))
    (drop (call $close (local.get $session)))
    (drop (call $gemm (i32.const 100) (i32.const 56)))
    (drop (call $gemm (i32.const 160) (i32.const 56)))
    (drop (call $rows (i32.const 220) (i32.const 40)))
    (global.set $first (call $receive (i32.const 4080) (i32.const 8)))
    (global.set $second (call $receive (i32.const 4088) (i32.const 8)))
    (call $write (i32.const 3)))
  (func (export "driftwood_complete") (param $op i64) (param $status i64)
    (i64.store (i32.const 4064) (local.get $op))
    (i64.store (i32.const 4072) (local.get $status))
    (drop (call $reply (i32.const 4064) (i32.const 96)
      (i32.or (i64.eq (local.get $op) (global.get $first)) (i64.eq (local.get $op) (global.get $second)))))
    (call $write (i32.const 4))
    (call $write (i32.const 3))
    (if (i64.eq (local.get $op) (global.get $prefill_op))
      (then (drop (call $next (global.get $stream) (i32.const 3000) (i32.const 8))))))
))";

inline std::unique_ptr<wasm::Module> busy_module(World& world) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(kBusyGuest)).value();
}

}  // namespace driftwood::actor
