// The numbers of a decoder as Hugging Face's config.json has them
// (https://huggingface.co/docs/transformers/model_doc/llama).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "model/file_errors.h"

namespace driftwood::model {

struct LlamaConfig {
    compute::DecoderSpec spec;  // without weights; pairs of RoPE as Hugging Face has them
    bool tied = false;          // the output is the embedding
};

// kCorrupt: no JSON object, or a name twice; kNotFound and kMismatch name the member; kUnsupported: what would change
// the arithmetic, and members that are not known here, since they might.
Result<LlamaConfig> read_config(const FileErrors& errors, std::string_view text);

std::string config_text(const LlamaConfig& config);

}  // namespace driftwood::model
