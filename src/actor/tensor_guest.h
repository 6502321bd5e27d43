// For tests: a guest that asks for the tensor operation that a message spells out: u32 which (0 gemm, 1 rows), u32
// whether to cancel it at once, u32 the struct's size, and the struct. It replies with what the call returned and,
// where that is an operation, with its status; both i64. Tests put matrices into its memory themselves.
#pragma once

#include <cstring>
#include <utility>

#include "actor/test_world.h"
#include "driftwood/guest.h"

namespace driftwood::actor {

inline constexpr const char* kTensorGuest = R"((module
  (import "driftwood" "receive" (func $receive (param i32 i32) (result i64)))
  (import "driftwood" "reply" (func $reply (param i32 i32 i32) (result i32)))
  (import "driftwood" "cancel" (func $cancel (param i64) (result i32)))
  (import "driftwood" "gemm" (func $gemm (param i32 i32) (result i64)))
  (import "driftwood" "rows" (func $rows (param i32 i32) (result i64)))
  (memory (export "memory") 4)
  (global $listening (mut i64) (i64.const 0))
  (func $say (param i64) (param $last i32)
    (i64.store (i32.const 0) (local.get 0))
    (drop (call $reply (i32.const 0) (i32.const 8) (local.get $last))))
  (func $listen (global.set $listening (call $receive (i32.const 256) (i32.const 512))))
  (func (export "driftwood_start") (call $listen))
  (func (export "driftwood_complete") (param $op i64) (param $status i64)
    (local $asked i64)
    (if (i64.ne (local.get $op) (global.get $listening))
      (then (call $say (local.get $status) (i32.const 1)) (call $listen) (return)))
    (local.set $asked
      (if (result i64) (i32.load (i32.const 256))
        (then (call $rows (i32.const 268) (i32.load (i32.const 264))))
        (else (call $gemm (i32.const 268) (i32.load (i32.const 264))))))
    (memory.fill (i32.const 268) (i32.const 255) (i32.const 128))  ;; structs are read at the call
    (if (i64.gt_s (local.get $asked) (i64.const 0))
      (then
        (call $say (local.get $asked) (i32.const 0))
        (if (i32.load (i32.const 260)) (then (drop (call $cancel (local.get $asked))))))
      (else (call $say (local.get $asked) (i32.const 1)) (call $listen))))
))";

// An actor of that guest.
struct TensorActor {
    explicit TensorActor(std::string_view device) {
        world.device = compute::make_device(device, 2).value();
        module = wasm::Module::compile(*world.runtime, wasm::from_wat(kTensorGuest)).value();
        actor = Actor::create(world.context(), *module, {}).value();
        Heard heard;
        run(*actor, heard);
    }

    uint8_t* memory() { return actor->instance().memory().base(); }
    uint64_t memory_bytes() { return actor->instance().memory().size(); }

    // What the guest replied: the call's result, and the operation's status where there was one.
    template <class Struct>
    std::vector<int64_t> ask(const Struct& what, bool cancel = false) {
        const uint32_t head[] = {std::is_same_v<Struct, driftwood_rows>, cancel, sizeof what};
        std::string message(sizeof head + sizeof what, '\0');
        std::memcpy(message.data(), head, sizeof head);
        std::memcpy(message.data() + sizeof head, &what, sizeof what);
        EXPECT_TRUE(actor->send(message).ok());
        Heard heard;
        run(*actor, heard);
        EXPECT_EQ(heard.answers, 1) << heard.logs;
        std::vector<int64_t> numbers(heard.replies.size() / sizeof(int64_t));
        std::memcpy(numbers.data(), heard.replies.data(), numbers.size() * sizeof(int64_t));
        return numbers;
    }

    World world;
    std::unique_ptr<wasm::Module> module;
    std::unique_ptr<Actor> actor;
};

}  // namespace driftwood::actor
