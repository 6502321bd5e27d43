// Models of random weights as files: what `driftwood synth` writes and `driftwood bench` makes for itself.
#pragma once

#include <string>

#include "base/result.h"
#include "model/synth.h"

namespace driftwood::cli {

// The shapes of a preset with weights of a type, both as people type them. kInvalidArgument lists what there is.
Result<model::SynthShape> synth_shape(const std::string& like, const std::string& quant);
std::string synth_preset_names();  // "demo, llama-3.2-1b, …"
std::string synth_quant_names();   // "q8_0, …"

struct SynthFileOptions {
    bool replace = false;   // off: kAlreadyExists when the file is there
    bool progress = false;  // a line on stderr that says how far it is
};

// Writes the model to `path`, which appears whole or not at all: GGUF, or a model file of ours (docs/model-format.md)
// where the name ends in ".safetensors" or GGUF has no such weights. Returns its size in bytes. kInvalidArgument: the
// format that the name asks for has them not.
Result<uint64_t> write_synth_file(const std::string& path, const model::SynthShape& shape, uint64_t seed,
                                  const SynthFileOptions& options);

// The file of this preset and type in the cache directory ($DRIFTWOOD_CACHE, else $XDG_CACHE_HOME/driftwood, else
// ~/.cache/driftwood), written now if it is not there yet.
Result<std::string> cached_synth_file(const std::string& like, const std::string& quant, bool progress);

}  // namespace driftwood::cli
