#include "node/builtin.h"

#include "embedded_demo_model.h"
#include "embedded_guests.h"

namespace driftwood::node {

std::span<const uint8_t> demo_model_gguf() { return embedded::demo_gguf(); }
std::span<const uint8_t> chat_guest() { return embedded::chat_wasm(); }
std::span<const uint8_t> laboratory_guest() { return embedded::laboratory_wasm(); }

}  // namespace driftwood::node
