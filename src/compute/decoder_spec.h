// DecoderSpec: a Llama-architecture decoder as plain data. `model/` fills it, engines are built from it. All weights
// are views: whoever fills the spec keeps their bytes alive and unchanged as long as an engine uses them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/weights.h"

namespace driftwood::compute {

struct DecoderLayer {
    std::span<const float> attn_norm;  // [d_model]
    MatrixView wq;                     // [heads * head_dim, d_model]
    MatrixView wk;                     // [kv_heads * head_dim, d_model]
    MatrixView wv;                     // [kv_heads * head_dim, d_model]
    MatrixView wo;                     // [d_model, heads * head_dim]
    std::span<const float> ffn_norm;   // [d_model]
    MatrixView w_gate;                 // [d_ff, d_model]
    MatrixView w_up;                   // [d_ff, d_model]
    MatrixView w_down;                 // [d_model, d_ff]
};

// Which two values of a head RoPE turns together.
enum class RopePairs : uint8_t {
    kAdjacent,  // (2i, 2i + 1): GGUF's llama order
    kHalves,    // (i, i + head_dim / 2): Hugging Face's order
};

struct DecoderSpec {
    uint32_t layers = 0;
    uint32_t d_model = 0;
    uint32_t heads = 0;
    uint32_t kv_heads = 0;  // heads is a multiple of it
    uint32_t head_dim = 0;  // even, <= 256
    uint32_t d_ff = 0;
    uint32_t vocab = 0;
    uint32_t context = 0;  // positions the model was made for; a session may not grow beyond
    float norm_eps = 1e-5F;
    double rope_theta = 10000.0;
    RopePairs rope_pairs = RopePairs::kAdjacent;
    ActivationBits activation_bits = ActivationBits::k8;
    std::vector<float> rope_factors;  // empty, or [head_dim / 2] divisors of the frequencies (Llama 3's rope_freqs)

    MatrixView embedding;  // [vocab, d_model], of any type
    std::vector<DecoderLayer> layer;
    std::span<const float> output_norm;  // [d_model]
    MatrixView output;                   // [vocab, d_model]; the embedding's bytes, or W16 made from them, when tied
};

// Bytes of all its matrices and norms, as they lie; an output matrix that is the embedding counts once.
uint64_t bytes_of_weights(const DecoderSpec& spec);

// Whether the spec is consistent and inside the limits of the engines (kMax… in decoder_spec.cc): every shape against
// every view's bytes, finite scales, finite norms. Weights come from files, so everything is checked here, once.
Result<void> validate(const DecoderSpec& spec);

}  // namespace driftwood::compute
