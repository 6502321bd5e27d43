// Shapes of models that people use.
#include "model/synth.h"

namespace driftwood::model {

namespace {

constexpr SynthPreset kPresets[] = {
    {"demo",
     {.layers = 8,
      .d_model = 384,
      .heads = 6,
      .kv_heads = 2,
      .head_dim = 64,
      .d_ff = 1024,
      .vocab = 4096,
      .context = 2048}},
    {"smollm2-135m",
     {.layers = 30,
      .d_model = 576,
      .heads = 9,
      .kv_heads = 3,
      .head_dim = 64,
      .d_ff = 1536,
      .vocab = 49152,
      .context = 8192,
      .rope_theta = 100000.0}},
    {"smollm2-360m",
     {.layers = 32,
      .d_model = 960,
      .heads = 15,
      .kv_heads = 5,
      .head_dim = 64,
      .d_ff = 2560,
      .vocab = 49152,
      .context = 8192,
      .rope_theta = 100000.0}},
    {"tinyllama-1.1b",
     {.layers = 22,
      .d_model = 2048,
      .heads = 32,
      .kv_heads = 4,
      .head_dim = 64,
      .d_ff = 5632,
      .vocab = 32000,
      .context = 2048,
      .tied = false}},
    {"llama-3.2-1b",
     {.layers = 16,
      .d_model = 2048,
      .heads = 32,
      .kv_heads = 8,
      .head_dim = 64,
      .d_ff = 8192,
      .vocab = 128256,
      .context = 131072,
      .rope_freqs = true,
      .rope_theta = 500000.0}},
    {"llama-3.2-3b",
     {.layers = 28,
      .d_model = 3072,
      .heads = 24,
      .kv_heads = 8,
      .head_dim = 128,
      .d_ff = 8192,
      .vocab = 128256,
      .context = 131072,
      .rope_freqs = true,
      .rope_theta = 500000.0}},
    {"llama-3.1-8b",
     {.layers = 32,
      .d_model = 4096,
      .heads = 32,
      .kv_heads = 8,
      .head_dim = 128,
      .d_ff = 14336,
      .vocab = 128256,
      .context = 131072,
      .tied = false,
      .rope_freqs = true,
      .rope_theta = 500000.0}},
    {"llama-3.3-70b",
     {.layers = 80,
      .d_model = 8192,
      .heads = 64,
      .kv_heads = 8,
      .head_dim = 128,
      .d_ff = 28672,
      .vocab = 128256,
      .context = 131072,
      .tied = false,
      .rope_freqs = true,
      .rope_theta = 500000.0}},
};

}  // namespace

std::span<const SynthPreset> synth_presets() { return kPresets; }

std::optional<SynthShape> synth_preset(std::string_view name) {
    for (const SynthPreset& preset : kPresets) {
        if (preset.name == name) return preset.shape;
    }
    return std::nullopt;
}

uint64_t parameter_count(const SynthShape& shape) {
    const uint64_t d = shape.d_model;
    const uint64_t q = uint64_t{shape.heads} * shape.head_dim;
    const uint64_t kv = uint64_t{shape.kv_heads} * shape.head_dim;
    const uint64_t layer = 2 * d * (q + kv) + 3 * d * shape.d_ff + 2 * d;
    return shape.layers * layer + d + d * shape.vocab * (shape.tied ? 1 : 2);
}

}  // namespace driftwood::model
