// The DecoderSpec of a GGUF file of architecture `llama`.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "model/gguf.h"

namespace driftwood::model {

// Matrices are views into the file's bytes, but for those in F32, F16 and BF16 that multiply: they are copies in W16
// (2.016 bytes a weight). Norms are copied, for they need not be aligned in the file.
struct LlamaWeights {
    compute::DecoderSpec spec;
    std::deque<std::vector<float>> norms;  // what the spec's norms view: addresses stay while it is moved
    std::deque<std::unique_ptr<uint8_t[]>> w16;

    LlamaWeights() = default;
    LlamaWeights(LlamaWeights&&) = default;
    LlamaWeights& operator=(LlamaWeights&&) = default;
};

// The key with which a file asks for 8- or 16-bit activations; without it they have 8.
inline constexpr const char* kActivationBitsKey = "driftwood.activation_bits";

// Refuses by name: other architectures, types of weights that compute/formats.h does not know, norms other than F32,
// RoPE scaling other than rope_freqs.weight, mixtures of experts, tensors it does not know. Shapes are checked against
// the metadata and the result by compute::validate. `bits` overrides what the file asks for.
Result<LlamaWeights> read_llama(const Gguf& file, std::optional<compute::ActivationBits> bits = std::nullopt);

}  // namespace driftwood::model
