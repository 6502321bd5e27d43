#include "model/synth.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "base/random.h"
#include "compute/constants.h"
#include "compute/decoder_spec.h"
#include "compute/half.h"
#include "model/byte_level.h"
#include "model/gguf.h"
#include "model/llama_weights.h"
#include "model/model_file.h"

namespace driftwood::model {

namespace {

using compute::WeightType;

constexpr const char* kSpecials[kSynthSpecials] = {"<|bos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"};
constexpr uint32_t kBos = 0;
constexpr uint32_t kEnd = 4;
constexpr const char* kPreTokenizer = "gpt-2";
constexpr float kNormEps = 1e-5F;

constexpr uint32_t kGroup = 32;             // values that share a scale in Q8_0
constexpr size_t kGroupBytes = 2 + kGroup;  // the scale as f16, then the values
constexpr float kInt8Deviation = 73.9F;     // of a uniform int8

// Random words in order; each tensor has a stream of its own, so that shapes elsewhere do not change it.
class Words {
  public:
    Words(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
    std::array<uint32_t, 4> next() { return philox(seed_, counter_++, stream_); }

  private:
    uint64_t seed_;
    uint64_t stream_;
    uint64_t counter_ = 0;
};

// Truncates. Precondition: a positive normal number in both formats.
uint16_t to_half(float x) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) - (112U << 23)) >> 13); }

// Values with a deviation of `deviation`; scales vary by a quarter around it.
void random_q8_0(Words words, float deviation, std::span<uint8_t> bytes) {
    const float scale = deviation / kInt8Deviation;
    for (size_t at = 0; at < bytes.size(); at += kGroupBytes) {
        const auto low = words.next();
        const auto high = words.next();
        // The top bits of two values serve the scale too: no third draw for a number that matters so little.
        const float vary = static_cast<float>(low[0] >> 24) / 512.0F + 0.75F;
        const uint16_t half = to_half(scale * vary);
        std::memcpy(&bytes[at], &half, sizeof half);
        std::memcpy(&bytes[at + 2], low.data(), 16);
        std::memcpy(&bytes[at + 18], high.data(), 16);
    }
}

// What random bits give in a block format: the deviation of its values when d is 1, the mean that a minimum of
// mean · d takes away, and where the scales lie.
struct RandomBlock {
    float deviation;
    float mean;  // 0: no minimum
    size_t d;    // offset; a minimum is the f16 behind it
    bool min_is_added;
};

RandomBlock random_block(WeightType type) {
    switch (type) {
        case WeightType::kQ4_0: return {4.64F, 0.0F, 0, false};
        case WeightType::kQ5_0: return {9.25F, 0.0F, 0, false};
        case WeightType::kQ4_1: return {4.61F, 7.5F, 0, true};
        case WeightType::kQ5_1: return {9.23F, 15.5F, 0, true};
        case WeightType::kQ4_K: return {258.3F, 7.5F, 0, false};   // scales and minima have the same mean
        case WeightType::kQ5_K: return {526.9F, 15.5F, 0, false};  //
        case WeightType::kQ6_K: return {1366.0F, 0.0F, offsetof(compute::BlockQ6_K, d), false};
        default: CHECK(type == WeightType::kQ4S); return {40.8F, 0.0F, 0, false};
    }
}

void random_blocks(Words words, WeightType type, float deviation, std::span<uint8_t> bytes) {
    for (size_t at = 0; at < bytes.size(); at += 16) {
        const auto random = words.next();
        std::memcpy(&bytes[at], random.data(), std::min<size_t>(16, bytes.size() - at));
    }
    const RandomBlock block = random_block(type);
    const size_t size = compute::kWeightFormats[static_cast<size_t>(type)].bytes;
    for (size_t at = 0; at < bytes.size(); at += size) {
        const float vary = static_cast<float>(bytes[at + size / 2]) / 512.0F + 0.75F;
        const float d = deviation / block.deviation * vary;
        const auto put = [&](size_t offset, float x) {
            const uint16_t half = compute::float_to_half(x);
            std::memcpy(&bytes[at + offset], &half, sizeof half);
        };
        put(block.d, d);
        if (block.mean != 0.0F) put(block.d + 2, block.min_is_added ? -block.mean * d : block.mean * d);
    }
}

// Uniform values: F32, F16 or BF16.
void random_floats(Words words, WeightType type, float deviation, std::span<uint8_t> bytes) {
    const size_t size = type == WeightType::kF32 ? 4 : 2;
    const float half_range = deviation * 1.7320508F;
    for (size_t at = 0; at < bytes.size();) {
        for (const uint32_t word : words.next()) {
            if (at >= bytes.size()) break;
            const float x = half_range * (static_cast<float>(static_cast<int32_t>(word >> 8) - (1 << 23)) * 0x1p-23F);
            const uint16_t bits = type == WeightType::kF16 ? compute::float_to_half(x) : compute::float_to_bf16(x);
            if (size == 4) std::memcpy(&bytes[at], &x, sizeof x);
            if (size == 2) std::memcpy(&bytes[at], &bits, sizeof bits);
            at += size;
        }
    }
}

void random_matrix(Words words, WeightType type, float deviation, std::span<uint8_t> bytes) {
    if (type == WeightType::kQ8_0) return random_q8_0(words, deviation, bytes);
    if (compute::is_plain_float(type)) return random_floats(words, type, deviation, bytes);
    random_blocks(words, type, deviation, bytes);
}

// Around 1.
void random_norm(Words words, std::span<uint8_t> bytes) {
    for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
        const float value = 0.75F + static_cast<float>(words.next()[0] >> 24) / 512.0F;
        std::memcpy(&bytes[at], &value, sizeof value);
    }
}

struct SynthVocabulary {
    std::vector<std::string> tokens;
    std::vector<int32_t> types;
    std::vector<std::pair<std::string, std::string>> merges;
};

// Words in the order of their length: letters and the space, then every word so far followed by every letter.
SynthVocabulary make_vocabulary(uint32_t count) {
    SynthVocabulary out;
    for (const char* special : kSpecials) out.tokens.emplace_back(special);
    out.types.assign(kSynthSpecials, 3);
    for (uint32_t byte = 0; byte < 256; ++byte) out.tokens.push_back(byte_level_character(static_cast<uint8_t>(byte)));
    const std::string letters = "etaoinshrdlucmfwypvbgkjqxz";  // in the order of their frequency in English
    std::vector<std::string> stems;
    for (const char c : letters) stems.emplace_back(1, c);
    stems.push_back(byte_level_character(' '));
    for (size_t i = 0; out.tokens.size() < count; ++i) {
        for (size_t j = 0; j < letters.size() && out.tokens.size() < count; ++j) {
            const std::string stem = stems[i];
            stems.push_back(stem + letters[j]);
            out.tokens.push_back(stems.back());
            out.merges.emplace_back(stem, std::string(1, letters[j]));
        }
    }
    out.types.resize(count, 1);
    return out;
}

Result<void> check(const SynthShape& s) {
    const auto bad = [](const std::string& problem) {
        return error(ErrorCode::kInvalidArgument, "[model.synth] " + problem);
    };
    constexpr uint32_t kMost = 1U << 20;
    if (s.layers < 1 || s.layers > 1024) return bad("layers: want 1 to 1024, got " + std::to_string(s.layers));
    for (const auto& [name, width] : {std::pair{"d_model", s.d_model}, std::pair{"d_ff", s.d_ff}}) {
        if (width < kGroup || width > kMost || width % kGroup != 0) {
            return bad(std::string(name) + ": want a multiple of 32, got " + std::to_string(width));
        }
    }
    if (s.head_dim < 2 || s.head_dim > 256 || s.head_dim % 2 != 0) {
        return bad("head_dim: want an even number up to 256, got " + std::to_string(s.head_dim));
    }
    if (s.heads < 1 || s.heads > kMost / s.head_dim || (s.heads * s.head_dim) % kGroup != 0) {
        return bad("heads: want heads * head_dim to be a multiple of 32, got " + std::to_string(s.heads));
    }
    if (s.kv_heads < 1 || s.heads % s.kv_heads != 0) {
        return bad("kv_heads: want a divisor of the heads, got " + std::to_string(s.kv_heads));
    }
    if (s.vocab < kMinSynthVocab || s.vocab > kMost) {
        return bad("vocab: want " + std::to_string(kMinSynthVocab) + " to " + std::to_string(kMost) + ", got " +
                   std::to_string(s.vocab));
    }
    if (s.context < 1) return bad("context: want at least 1");
    for (const WeightType type : {s.type, s.second_type.value_or(s.type)}) {
        const std::string name(compute::weight_type_name(type));
        for (const uint32_t width : {s.d_model, s.d_ff, s.heads * s.head_dim}) {
            if (compute::cols_fit(type, width)) continue;
            return bad(name + ": rows of " + std::to_string(width) + " values, want a multiple of " +
                       std::to_string(compute::kSuperBlock));
        }
    }
    return {};
}

std::string name_of(const SynthShape& shape, uint64_t seed) {
    return "synth-" + std::to_string(shape.layers) + "x" + std::to_string(shape.d_model) + "-" + std::to_string(seed);
}

void put_metadata(GgufWriter& out, const SynthShape& shape, uint64_t seed) {
    out.string("general.architecture", "llama");
    out.string("general.name", name_of(shape, seed));
    out.u32("llama.block_count", shape.layers);
    out.u32("llama.context_length", shape.context);
    out.u32("llama.embedding_length", shape.d_model);
    out.u32("llama.feed_forward_length", shape.d_ff);
    out.u32("llama.attention.head_count", shape.heads);
    out.u32("llama.attention.head_count_kv", shape.kv_heads);
    out.u32("llama.attention.key_length", shape.head_dim);
    out.u32("llama.attention.value_length", shape.head_dim);
    out.u32("llama.rope.dimension_count", shape.head_dim);
    out.f32("llama.rope.freq_base", static_cast<float>(shape.rope_theta));
    out.f32("llama.attention.layer_norm_rms_epsilon", kNormEps);
    const SynthVocabulary vocabulary = make_vocabulary(shape.vocab);
    std::vector<std::string> merges;
    for (const auto& [left, right] : vocabulary.merges) merges.push_back(left + " " + right);
    out.string("tokenizer.ggml.model", "gpt2");
    out.string("tokenizer.ggml.pre", kPreTokenizer);
    out.strings("tokenizer.ggml.tokens", vocabulary.tokens);
    out.i32s("tokenizer.ggml.token_type", vocabulary.types);
    out.strings("tokenizer.ggml.merges", merges);
    out.u32("tokenizer.ggml.bos_token_id", kBos);
    out.u32("tokenizer.ggml.eos_token_id", kEnd);
    out.string("tokenizer.chat_template", kSynthTemplate);
}

struct SynthTensor {
    std::string name;
    WeightType type;
    uint32_t rows;  // 0: a vector of `cols` numbers in F32
    uint32_t cols;
    std::function<void(std::span<uint8_t>)> fill;
};

void rope_factors(std::span<uint8_t> bytes) {
    const size_t count = bytes.size() / sizeof(float);
    for (size_t i = 0; i < count; ++i) {
        const float factor = i < count / 2 ? 1.0F : 8.0F;
        std::memcpy(&bytes[i * sizeof factor], &factor, sizeof factor);
    }
}

// Each of the random ones has a stream of its own, by its place in the list.
std::vector<SynthTensor> tensors_of(const SynthShape& shape, uint64_t seed, const LlamaNames& names) {
    std::vector<SynthTensor> out;
    uint64_t stream = 0;
    const auto matrix_of = [&](WeightType type, const std::string& name, uint32_t rows, uint32_t cols, float gain) {
        const float deviation = gain / std::sqrt(static_cast<float>(cols));
        out.push_back(
            {name, type, rows, cols, [words = Words(seed, ++stream), type, deviation](std::span<uint8_t> bytes) {
                 random_matrix(words, type, deviation, bytes);
             }});
    };
    const auto matrix = [&](const std::string& name, uint32_t rows, uint32_t cols, float gain) {
        matrix_of(shape.type, name, rows, cols, gain);
    };
    const auto second = [&](const std::string& name, uint32_t rows, uint32_t cols, float gain) {
        matrix_of(shape.second_type.value_or(shape.type), name, rows, cols, gain);
    };
    const auto norm = [&](const std::string& name) {
        out.push_back({name, WeightType::kF32, 0, shape.d_model,
                       [words = Words(seed, ++stream)](std::span<uint8_t> bytes) { random_norm(words, bytes); }});
    };
    const uint32_t q = shape.heads * shape.head_dim;
    const uint32_t kv = shape.kv_heads * shape.head_dim;
    // A gain of 2 spreads the logits; the small embedding leaves the residual stream to the layers, so that a tied
    // model does not simply repeat its last token.
    matrix(names.embedding, shape.vocab, shape.d_model, 2.0F);
    for (uint32_t i = 0; i < shape.layers; ++i) {
        const std::string at = names.layer + std::to_string(i) + ".";
        norm(at + names.attn_norm);
        matrix(at + names.wq, q, shape.d_model, 1.5F);
        matrix(at + names.wk, kv, shape.d_model, 1.5F);
        second(at + names.wv, kv, shape.d_model, 1.0F);
        matrix(at + names.wo, shape.d_model, q, 1.0F);
        norm(at + names.ffn_norm);
        matrix(at + names.w_gate, shape.d_ff, shape.d_model, 1.0F);
        matrix(at + names.w_up, shape.d_ff, shape.d_model, 1.0F);
        second(at + names.w_down, shape.d_model, shape.d_ff, 1.0F);
    }
    norm(names.output_norm);
    if (!shape.tied) second(names.output, shape.vocab, shape.d_model, 2.0F);
    if (shape.rope_freqs) out.push_back({names.rope_factors, WeightType::kF32, 0, shape.head_dim / 2, rope_factors});
    return out;
}

Error no_such_type(WeightType type, const char* format) {
    return error(ErrorCode::kInvalidArgument,
                 "[model.synth] " + std::string(compute::weight_type_name(type)) + ": " + format + " has no such type");
}

ModelHead head_of(const SynthShape& shape, uint64_t seed) {
    ModelHead head;
    head.name = name_of(shape, seed);
    compute::DecoderSpec& spec = head.config.spec;
    spec.layers = shape.layers;
    spec.d_model = shape.d_model;
    spec.heads = shape.heads;
    spec.kv_heads = shape.kv_heads;
    spec.head_dim = shape.head_dim;
    spec.d_ff = shape.d_ff;
    spec.vocab = shape.vocab;
    spec.context = shape.context;
    spec.norm_eps = kNormEps;
    spec.rope_theta = shape.rope_theta;
    head.config.tied = shape.tied;
    SynthVocabulary vocabulary = make_vocabulary(shape.vocab);
    head.pre_tokenizer = kPreTokenizer;
    head.tokens = std::move(vocabulary.tokens);
    head.kinds = std::move(vocabulary.types);
    head.merges = std::move(vocabulary.merges);
    head.bos = kBos;
    head.eos = kEnd;
    head.chat_template = kSynthTemplate;
    return head;
}

}  // namespace

bool gguf_has(const SynthShape& shape) {
    return ggml_type_of(shape.type) && ggml_type_of(shape.second_type.value_or(shape.type));
}

Result<GgufWriter> synth_gguf(const SynthShape& shape, uint64_t seed) {
    DW_TRY(check(shape));
    for (const WeightType type : {shape.type, shape.second_type.value_or(shape.type)}) {
        if (!ggml_type_of(type)) return no_such_type(type, "GGUF");
    }
    GgufWriter out;
    put_metadata(out, shape, seed);
    for (SynthTensor& tensor : tensors_of(shape, seed, kGgufNames)) {
        std::vector<uint64_t> extents = {tensor.cols};
        if (tensor.rows != 0) extents.push_back(tensor.rows);
        const uint64_t size =
            tensor.rows == 0 ? tensor.cols * sizeof(float) : tensor.rows * compute::row_bytes(tensor.type, tensor.cols);
        out.tensor(tensor.name, *ggml_type_of(tensor.type), std::move(extents), size, std::move(tensor.fill));
    }
    return out;
}

Result<file::SectionWriter> synth_model_file(const SynthShape& shape, uint64_t seed) {
    DW_TRY(check(shape));
    for (const WeightType type : {shape.type, shape.second_type.value_or(shape.type)}) {
        if (!model_file_has(type)) return no_such_type(type, "a model file of ours");
    }
    file::SectionWriter out;
    put_model_head(out, head_of(shape, seed));
    for (SynthTensor& tensor : tensors_of(shape, seed, kHuggingFaceNames)) {
        if (tensor.rows == 0) {
            put_vector(out, tensor.name, tensor.cols, std::move(tensor.fill));
        } else {
            put_matrix(out, tensor.name, tensor.type, tensor.rows, tensor.cols, std::move(tensor.fill));
        }
    }
    return out;
}

Result<std::vector<uint8_t>> synth_model(const SynthShape& shape, uint64_t seed) {
    DW_ASSIGN(const GgufWriter writer, synth_gguf(shape, seed));
    return writer.finish();
}

}  // namespace driftwood::model
