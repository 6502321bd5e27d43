// The DecoderSpec of a GGUF file of architecture `llama`.
#pragma once

#include <optional>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "model/gguf.h"
#include "model/llama_weights.h"

namespace driftwood::model {

// The key with which a file asks for 8- or 16-bit activations; without it they have 8.
inline constexpr const char* kActivationBitsKey = "driftwood.activation_bits";

// Refuses by name: other architectures, RoPE scaling other than rope_freqs.weight, mixtures of experts, and what
// read_weights refuses. `bits` overrides what the file asks for.
Result<LlamaWeights> read_llama(const Gguf& file, std::optional<compute::ActivationBits> bits = std::nullopt);

}  // namespace driftwood::model
