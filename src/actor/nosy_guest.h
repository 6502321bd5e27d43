// For tests: a guest without a model that shows everything an image must keep of a guest: a mutable global, a table it
// changes, memory, the clock, random bytes, unfinished output lines, arguments, environment, several operations at
// once.
//
// For every message it replies with: the message's length, a counter in a global, what the table's function says, a
// counter in memory, now (8 bytes), 8 random bytes, the sizes of arguments and environment; and writes the message to
// stdout, with a newline only every second time.
#pragma once

#include "actor/test_world.h"

namespace driftwood::actor {

inline constexpr const char* kNosyGuest = R"((module
  (import "driftwood" "receive" (func $receive (param i32 i32) (result i64)))
  (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
  (import "driftwood" "now" (func $now (result i64)))
  (import "driftwood" "random" (func $random (param i32 i32) (result i32)))
  (import "driftwood" "cancel" (func $cancel (param i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (type $answer (func (result i32)))
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem (i32.const 0) $one $two)
  (data (i32.const 512) "\n")
  (global $turns (mut i64) (i64.const 0))
  (global $waiting (mut i64) (i64.const 0))
  (global $ratio (mut f64) (f64.const 1))
  (func $one (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))
  (func $listen
    (global.set $waiting (call $receive (i32.const 1024) (i32.const 64)))
    ;; a second operation, cancelled at once: its completion is queued when this turn ends
    (drop (call $cancel (call $receive (i32.const 2048) (i32.const 64)))))
  (func (export "driftwood_start") (call $listen))
  (func $swap  ;; the table's two functions change places
    (local $kept funcref)
    (local.set $kept (table.get $t (i32.const 0)))
    (table.set $t (i32.const 0) (table.get $t (i32.const 1)))
    (table.set $t (i32.const 1) (local.get $kept)))
  (func (export "driftwood_complete") (param $op i64) (param $status i64)
    (if (i64.ne (local.get $op) (global.get $waiting)) (then (return)))
    (global.set $turns (i64.add (global.get $turns) (i64.const 1)))
    (global.set $ratio (f64.mul (global.get $ratio) (f64.const 1.5)))
    (i32.store (i32.const 256) (i32.add (i32.load (i32.const 256)) (i32.const 3)))
    (i64.store (i32.const 0) (local.get $status))
    (i64.store (i32.const 8) (global.get $turns))
    (i32.store (i32.const 16) (call_indirect (type $answer) (i32.const 0)))
    (i32.store (i32.const 20) (i32.load (i32.const 256)))
    (i64.store (i32.const 24) (call $now))
    (drop (call $random (i32.const 32) (i32.const 8)))
    (drop (call $args_sizes (i32.const 40) (i32.const 44)))
    (drop (call $environ_sizes (i32.const 48) (i32.const 52)))
    (f64.store (i32.const 56) (global.get $ratio))
    (call $swap)
    ;; stdout: the message, and a newline every second time
    (i32.store (i32.const 600) (i32.const 1024))
    (i32.store (i32.const 604) (i32.wrap_i64 (local.get $status)))
    (i32.store (i32.const 608) (i32.const 512))
    (i32.store (i32.const 612) (i32.wrap_i64 (i64.and (global.get $turns) (i64.const 1))))
    (drop (call $fd_write (i32.const 1) (i32.const 600) (i32.const 2) (i32.const 620)))
    (drop (call $reply (i32.const 0) (i32.const 64) (i32.const 1)))
    (call $listen))
))";

inline std::unique_ptr<wasm::Module> nosy_module(World& world) {
    return wasm::Module::compile(*world.runtime, wasm::from_wat(kNosyGuest)).value();
}

inline ActorOptions nosy_options() {
    return {.limits = {}, .wasi = {.args = {"nosy", "one", "two"}, .environment = {"COLOUR=blue", "MOOD=good"}}};
}

}  // namespace driftwood::actor
