// The two identities of a model (model.h says what they decide), as blake3 over canonical fields.
#pragma once

#include <optional>
#include <string>

#include "compute/decoder_spec.h"
#include "file/hash.h"
#include "model/vocabulary.h"

namespace driftwood::model {

// Everything that changes a bit of KV or logits: versions of the contract and of the KV layout, shapes, RoPE, the
// activations' bits, and each tensor by canonical name, type, shape and content, in a fixed order. Reads all weights. A
// tied output is hashed like an output of its own, since it gives the same numbers; `context` is no part of the
// arithmetic.
file::Hash compute_identity(const compute::DecoderSpec& spec);

file::Hash text_identity(const Vocabulary& vocabulary, const std::optional<std::string>& chat_template);

}  // namespace driftwood::model
