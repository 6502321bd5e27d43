// The DecoderSpec of a GGUF file of architecture `llama`.
#pragma once

#include <deque>
#include <vector>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "model/gguf.h"

namespace driftwood::model {

// Matrices are views into the file's bytes; norms are copied, for they need not be aligned there.
struct LlamaWeights {
    compute::DecoderSpec spec;
    std::deque<std::vector<float>> norms;  // what the spec's norms view: addresses stay while it is moved

    LlamaWeights() = default;
    LlamaWeights(LlamaWeights&&) = default;
    LlamaWeights& operator=(LlamaWeights&&) = default;
};

// Refuses by name: other architectures, weight types other than Q8_0 (matrices) and F32 (norms), RoPE scaling other
// than rope_freqs.weight, mixtures of experts, tensors it does not know. Shapes are checked against the metadata and
// the result by compute::validate.
Result<LlamaWeights> read_llama(const Gguf& file);

}  // namespace driftwood::model
