// What is linked into the program, so that it works without a file: the demo model and the example guests.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace driftwood::node {

inline constexpr std::string_view kDemoModel = "demo";  // the name under which commands know the built-in model

std::span<const uint8_t> demo_model_gguf();
std::span<const uint8_t> chat_guest();        // guests/chat
std::span<const uint8_t> laboratory_guest();  // guests/laboratory

}  // namespace driftwood::node
