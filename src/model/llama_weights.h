// The weights of a decoder of the Llama architecture, put together from the tensors of a file. What a container has to
// offer for it is LlamaFile: by which names its tensors go, and what each is. One for GGUF (llama_spec.cc), one for
// model files of our own (model_file.cc), whose names and order of numbers are Hugging Face's.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "model/file_errors.h"

namespace driftwood::model {

// A tensor as its file has it.
struct FileTensor {
    std::optional<compute::WeightType> type;  // nullopt: none that engines know
    std::string type_name;                    // as the file's format spells it
    std::vector<uint64_t> shape;              // in values, rows before columns
    std::span<const uint8_t> bytes;           // as many as type and shape want
};

// What tensors are called; those of layer i begin with `layer` + "i.".
struct LlamaNames {
    const char* embedding;
    const char* output;  // absent: the output is the embedding
    const char* output_norm;
    const char* rope_factors;  // may be absent
    const char* layer;
    const char* attn_norm;
    const char* wq;
    const char* wk;
    const char* wv;
    const char* wo;
    const char* ffn_norm;
    const char* w_gate;
    const char* w_up;
    const char* w_down;
};

inline constexpr LlamaNames kGgufNames = {
    .embedding = "token_embd.weight",
    .output = "output.weight",
    .output_norm = "output_norm.weight",
    .rope_factors = "rope_freqs.weight",
    .layer = "blk.",
    .attn_norm = "attn_norm.weight",
    .wq = "attn_q.weight",
    .wk = "attn_k.weight",
    .wv = "attn_v.weight",
    .wo = "attn_output.weight",
    .ffn_norm = "ffn_norm.weight",
    .w_gate = "ffn_gate.weight",
    .w_up = "ffn_up.weight",
    .w_down = "ffn_down.weight",
};

inline constexpr LlamaNames kHuggingFaceNames = {
    .embedding = "model.embed_tokens.weight",
    .output = "lm_head.weight",
    .output_norm = "model.norm.weight",
    .rope_factors = "model.rope_factors",  // ours: Hugging Face computes them from config.json
    .layer = "model.layers.",
    .attn_norm = "input_layernorm.weight",
    .wq = "self_attn.q_proj.weight",
    .wk = "self_attn.k_proj.weight",
    .wv = "self_attn.v_proj.weight",
    .wo = "self_attn.o_proj.weight",
    .ffn_norm = "post_attention_layernorm.weight",
    .w_gate = "mlp.gate_proj.weight",
    .w_up = "mlp.up_proj.weight",
    .w_down = "mlp.down_proj.weight",
};

class LlamaFile {
  public:
    virtual ~LlamaFile() = default;
    virtual const FileErrors& errors() const = 0;
    virtual const LlamaNames& names() const = 0;
    virtual const char* matrix_types() const = 0;  // that may multiply, for people: "F32, F16, …"
    virtual std::vector<std::string_view> tensors() const = 0;
    virtual std::optional<FileTensor> tensor(const std::string& name) const = 0;
};

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

// `numbers` is the spec without its weights. Refuses by name: types of weights that compute/formats.h does not know,
// norms other than F32, shapes other than the numbers say, tensors it does not know; and what compute::validate
// refuses.
Result<LlamaWeights> read_weights(const LlamaFile& file, compute::DecoderSpec numbers);

}  // namespace driftwood::model
