// For tests: guests written with the Rust SDK. chat_rust is guests/chat_rust; tour is sdk/rust/tests/tour.rs, which
// uses everything that the SDK has and panics where something is not as it should be.
#pragma once

#include "actor/test_world.h"
#include "embedded_rust_guests.h"

namespace driftwood::actor {

inline std::unique_ptr<wasm::Module> chat_rust_module(World& world) {
    const auto bytes = embedded::chat_rust_wasm();
    return wasm::Module::compile(*world.runtime, {bytes.begin(), bytes.end()}).value();
}

inline std::unique_ptr<wasm::Module> tour_module(World& world) {
    const auto bytes = embedded::tour_wasm();
    return wasm::Module::compile(*world.runtime, {bytes.begin(), bytes.end()}).value();
}

// The stops of the tour. The first message is longer than the buffer that the SDK offers at first.
inline std::vector<std::string> tour_messages() {
    return {std::string(3000, 'm'), "conversations", "second thoughts", "tensors", "second level", "short", "end"};
}

}  // namespace driftwood::actor
