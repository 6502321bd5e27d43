#include "model/llama_spec.h"

#include <algorithm>
#include <limits>

namespace driftwood::model {

namespace {

using compute::DecoderSpec;

class GgufTensors final : public LlamaFile {
  public:
    explicit GgufTensors(const Gguf& file) : file_(file), errors_(file.errors()) {}

    const FileErrors& errors() const override { return errors_; }
    const LlamaNames& names() const override { return kGgufNames; }
    const char* matrix_types() const override {
        return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K";
    }
    std::vector<std::string_view> tensors() const override {
        std::vector<std::string_view> names;
        for (const auto& [name, tensor] : file_.tensors()) names.push_back(name);
        return names;
    }
    std::optional<FileTensor> tensor(const std::string& name) const override {
        const GgufTensor* found = file_.tensor(name);
        if (found == nullptr) return std::nullopt;
        std::vector<uint64_t> shape = found->shape;
        std::reverse(shape.begin(), shape.end());
        return FileTensor{weight_type_of(found->type), ggml_type_name(found->type), std::move(shape), found->data};
    }

  private:
    const Gguf& file_;
    FileErrors errors_;
};

// What the metadata says: the spec without its weights.
class Reader {
  public:
    Reader(const Gguf& file, std::optional<compute::ActivationBits> bits) : file_(file), bits_(bits) {}

    Result<DecoderSpec> run() {
        DW_ASSIGN(const std::string_view architecture, file_.string("general.architecture"));
        if (architecture != "llama") {
            return file_.failure(ErrorCode::kUnsupported,
                                 "architecture '" + std::string(architecture) + "', supported is 'llama'");
        }
        DW_TRY(numbers());
        DW_TRY(refuse_what_changes_the_arithmetic());
        DW_TRY(vocabulary());
        return std::move(out_);
    }

  private:
    Result<uint32_t> u32(const std::string& key) {
        DW_ASSIGN(const uint64_t value, file_.integer(key));
        if (value > std::numeric_limits<uint32_t>::max()) {
            return file_.failure(ErrorCode::kLimit, "key '" + key + "': " + std::to_string(value));
        }
        return static_cast<uint32_t>(value);
    }
    Result<uint32_t> u32_or(const std::string& key, uint32_t otherwise) {
        return file_.has(key) ? u32(key) : Result<uint32_t>(otherwise);
    }

    Result<void> numbers() {
        DecoderSpec& spec = out_;
        DW_ASSIGN(spec.layers, u32("llama.block_count"));
        DW_ASSIGN(spec.d_model, u32("llama.embedding_length"));
        DW_ASSIGN(spec.d_ff, u32("llama.feed_forward_length"));
        DW_ASSIGN(spec.context, u32("llama.context_length"));
        DW_ASSIGN(spec.heads, u32("llama.attention.head_count"));
        DW_ASSIGN(spec.kv_heads, u32_or("llama.attention.head_count_kv", spec.heads));
        const std::string key_length = "llama.attention.key_length";
        if (!file_.has(key_length) && (spec.heads == 0 || spec.d_model % spec.heads != 0)) {
            return file_.failure(ErrorCode::kCorrupt, "llama.embedding_length " + std::to_string(spec.d_model) +
                                                          " over " + std::to_string(spec.heads) + " heads");
        }
        DW_ASSIGN(spec.head_dim, u32_or(key_length, spec.heads == 0 ? 0 : spec.d_model / spec.heads));
        DW_ASSIGN(const uint32_t value_length, u32_or("llama.attention.value_length", spec.head_dim));
        DW_ASSIGN(const uint32_t rotated, u32_or("llama.rope.dimension_count", spec.head_dim));
        if (value_length != spec.head_dim || rotated != spec.head_dim) {
            return file_.failure(ErrorCode::kUnsupported, "head sizes differ: keys " + std::to_string(spec.head_dim) +
                                                              ", values " + std::to_string(value_length) +
                                                              ", rotated " + std::to_string(rotated));
        }
        DW_ASSIGN(const double eps, file_.number("llama.attention.layer_norm_rms_epsilon"));
        spec.norm_eps = static_cast<float>(eps);
        if (file_.has("llama.rope.freq_base")) {
            DW_ASSIGN(spec.rope_theta, file_.number("llama.rope.freq_base"));
        }
        spec.rope_pairs = compute::RopePairs::kAdjacent;
        return activation_bits();
    }

    Result<void> activation_bits() {
        DW_ASSIGN(const uint32_t asked, u32_or(kActivationBitsKey, 8));
        if (asked != 8 && asked != 16) {
            return file_.failure(ErrorCode::kUnsupported,
                                 std::string(kActivationBitsKey) + " " + std::to_string(asked) + ": want 8 or 16");
        }
        const auto of_file = asked == 16 ? compute::ActivationBits::k16 : compute::ActivationBits::k8;
        out_.activation_bits = bits_.value_or(of_file);
        return {};
    }

    Result<void> refuse_what_changes_the_arithmetic() {
        const std::string scaling = "llama.rope.scaling.type";
        if (file_.has(scaling)) {
            DW_ASSIGN(const std::string_view kind, file_.string(scaling));
            if (kind != "none") {
                return file_.failure(ErrorCode::kUnsupported, "rope scaling '" + std::string(kind) + "'");
            }
        }
        for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
            if (!file_.has(key)) continue;
            DW_ASSIGN(const double factor, file_.number(key));
            if (factor != 1.0 && factor != 0.0) {
                return file_.failure(ErrorCode::kUnsupported, std::string(key) + " " + std::to_string(factor));
            }
        }
        DW_ASSIGN(const uint32_t experts, u32_or("llama.expert_count", 0));
        if (experts != 0) {
            return file_.failure(ErrorCode::kUnsupported, "a mixture of " + std::to_string(experts) + " experts");
        }
        return {};
    }

    // The embedding says how many tokens there are.
    Result<void> vocabulary() {
        const GgufTensor* embedding = file_.tensor(kGgufNames.embedding);
        if (embedding == nullptr || embedding->shape.size() < 2) {
            return file_.failure(ErrorCode::kNotFound,
                                 "tensor '" + std::string(kGgufNames.embedding) + "' is missing or no matrix");
        }
        if (embedding->shape[1] > std::numeric_limits<uint32_t>::max()) {
            return file_.failure(ErrorCode::kLimit, "vocabulary of " + std::to_string(embedding->shape[1]));
        }
        out_.vocab = static_cast<uint32_t>(embedding->shape[1]);
        return {};
    }

    const Gguf& file_;
    std::optional<compute::ActivationBits> bits_;
    DecoderSpec out_;
};

}  // namespace

Result<LlamaWeights> read_llama(const Gguf& file, std::optional<compute::ActivationBits> bits) {
    DW_ASSIGN(DecoderSpec numbers, Reader(file, bits).run());
    return read_weights(GgufTensors(file), std::move(numbers));
}

}  // namespace driftwood::model
