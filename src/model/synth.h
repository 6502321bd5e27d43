// Models of random weights: a file of given shapes from a seed, GGUF or one of ours (docs/model-format.md), with a
// small real byte-level BPE vocabulary and a chat template, so that text works although nothing was learned. For tests
// and measurements. Same shape and seed, same bytes, on every machine.
//
// Weights keep activations near 1 and spread logits over a few units, so that sampled tokens vary.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/formats.h"
#include "file/section.h"
#include "model/gguf_writer.h"

namespace driftwood::model {

struct SynthShape {
    uint32_t layers = 2;
    uint32_t d_model = 64;  // multiples of 32 (of 256 for K-quants), as d_ff and heads * head_dim
    uint32_t heads = 4;
    uint32_t kv_heads = 2;
    uint32_t head_dim = 16;
    uint32_t d_ff = 128;
    uint32_t vocab = 512;  // at least kMinSynthVocab
    uint32_t context = 1024;
    bool tied = true;  // the output matrix is the embedding
    bool rope_freqs = false;
    compute::WeightType type = compute::WeightType::kQ8_0;  // of all matrices
    // Of attn_v, ffn_down and the output (a tied one is the embedding), where it is another: Q4_K with Q6_K is what
    // others call Q4_K_M.
    std::optional<compute::WeightType> second_type = std::nullopt;
    double rope_theta = 10000.0;
};

// Shapes of models that people use, by name ("llama-3.2-1b").
struct SynthPreset {
    std::string_view name;
    SynthShape shape;
};
std::span<const SynthPreset> synth_presets();
std::optional<SynthShape> synth_preset(std::string_view name);

// Numbers among the model's weights; a tied output counts once.
uint64_t parameter_count(const SynthShape& shape);

// The first ids are <|bos|> <|user|> <|assistant|> <|system|> <|end|>, then the 256 bytes; the rest are words made of
// letters, each by one merge.
inline constexpr uint32_t kSynthSpecials = 5;
inline constexpr uint32_t kMinSynthVocab = kSynthSpecials + 256;

inline constexpr const char* kSynthTemplate =
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

// Whether GGUF has the shape's types of weights; the others are for model files of ours.
bool gguf_has(const SynthShape& shape);

// kInvalidArgument names the shape that makes no sense, or a type that the format has not. Weights are made when the
// writer writes, a tensor at a time.
Result<GgufWriter> synth_gguf(const SynthShape& shape, uint64_t seed);
Result<file::SectionWriter> synth_model_file(const SynthShape& shape, uint64_t seed);

// The GGUF file's bytes.
Result<std::vector<uint8_t>> synth_model(const SynthShape& shape, uint64_t seed);

}  // namespace driftwood::model
