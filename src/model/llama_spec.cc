#include "model/llama_spec.h"

#include <cstring>
#include <limits>
#include <set>

namespace driftwood::model {

namespace {

using compute::DecoderLayer;
using compute::DecoderSpec;
using compute::MatrixView;

std::string shape_text(std::span<const uint64_t> shape) {
    std::string out = "[";
    for (size_t i = 0; i < shape.size(); ++i) out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return out + "]";
}

class Reader {
  public:
    Reader(const Gguf& file, std::optional<compute::ActivationBits> bits) : file_(file), bits_(bits) {}

    Result<LlamaWeights> run() {
        DW_ASSIGN(const std::string_view architecture, file_.string("general.architecture"));
        if (architecture != "llama") {
            return file_.failure(ErrorCode::kUnsupported,
                                 "architecture '" + std::string(architecture) + "', supported is 'llama'");
        }
        DW_TRY(numbers());
        DW_TRY(refuse_what_changes_the_arithmetic());
        DW_TRY(tensors());
        DW_TRY(nothing_left());
        if (auto valid = compute::validate(out_.spec); !valid.ok()) {
            return error(valid.error().code, valid.error().message + " (in " + file_.what() + ")");
        }
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
        DecoderSpec& spec = out_.spec;
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
        out_.spec.activation_bits = bits_.value_or(of_file);
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

    Error wrong_type(const GgufTensor& tensor, const char* supported) {
        return file_.failure(ErrorCode::kUnsupported, "tensor '" + std::string(tensor.name) + "' is " +
                                                          ggml_type_name(tensor.type) + ", supported is " + supported);
    }

    Result<const GgufTensor*> take(const std::string& name, std::span<const uint64_t> shape) {
        const GgufTensor* tensor = file_.tensor(name);
        if (tensor == nullptr) return file_.failure(ErrorCode::kNotFound, "tensor '" + name + "' is missing");
        // Trailing extents of 1 say nothing.
        std::span<const uint64_t> got = tensor->shape;
        while (got.size() > shape.size() && got.back() == 1) got = got.first(got.size() - 1);
        if (!std::equal(got.begin(), got.end(), shape.begin(), shape.end())) {
            return file_.failure(ErrorCode::kMismatch, "tensor '" + name + "': want shape " + shape_text(shape) +
                                                           ", file has " + shape_text(tensor->shape));
        }
        used_.insert(tensor->name);
        return tensor;
    }

    // As the file has it.
    Result<MatrixView> matrix(const std::string& name, uint64_t rows, uint64_t cols) {
        const uint64_t shape[] = {cols, rows};
        DW_ASSIGN(const GgufTensor* tensor, take(name, shape));
        const auto type = weight_type_of(tensor->type);
        if (!type) {
            return wrong_type(*tensor, "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K");
        }
        return MatrixView{*type, static_cast<uint32_t>(rows), static_cast<uint32_t>(cols), tensor->data};
    }

    // One that multiplies.
    Result<MatrixView> linear(const std::string& name, uint64_t rows, uint64_t cols) {
        DW_ASSIGN(const MatrixView view, matrix(name, rows, cols));
        return multiplying(name, view);
    }

    Result<MatrixView> multiplying(const std::string& name, const MatrixView& view) {
        if (!compute::is_plain_float(view.type)) return view;
        if (!compute::cols_fit(compute::WeightType::kW16, view.cols)) {
            return file_.failure(
                ErrorCode::kUnsupported,
                "tensor '" + name + "': rows of " + std::to_string(view.cols) + " values, want a multiple of 32");
        }
        const size_t size = view.rows * compute::row_bytes(compute::WeightType::kW16, view.cols);
        out_.w16.push_back(std::make_unique_for_overwrite<uint8_t[]>(size));
        const std::span<uint8_t> copy(out_.w16.back().get(), size);
        if (auto made = compute::weights_to_w16(view, copy); !made.ok()) {
            return file_.failure(made.error().code, "tensor '" + name + "': " + made.error().message);
        }
        return MatrixView{compute::WeightType::kW16, view.rows, view.cols, copy};
    }

    Result<std::span<const float>> floats(const std::string& name, uint64_t count) {
        const uint64_t shape[] = {count};
        DW_ASSIGN(const GgufTensor* tensor, take(name, shape));
        if (tensor->type != kGgmlF32) return wrong_type(*tensor, "F32");
        std::vector<float>& values = out_.norms.emplace_back(count);
        std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
        return std::span<const float>(values);
    }

    Result<void> tensors() {
        DecoderSpec& spec = out_.spec;
        const GgufTensor* embedding = file_.tensor("token_embd.weight");
        if (embedding == nullptr || embedding->shape.size() < 2) {
            return file_.failure(ErrorCode::kNotFound, "tensor 'token_embd.weight' is missing or no matrix");
        }
        if (embedding->shape[1] > std::numeric_limits<uint32_t>::max()) {
            return file_.failure(ErrorCode::kLimit, "vocabulary of " + std::to_string(embedding->shape[1]));
        }
        spec.vocab = static_cast<uint32_t>(embedding->shape[1]);
        DW_ASSIGN(spec.embedding, matrix("token_embd.weight", spec.vocab, spec.d_model));
        for (uint32_t i = 0; i < spec.layers; ++i) DW_TRY(layer("blk." + std::to_string(i) + "."));
        DW_ASSIGN(spec.output_norm, floats("output_norm.weight", spec.d_model));
        if (file_.tensor("output.weight") != nullptr) {
            DW_ASSIGN(spec.output, linear("output.weight", spec.vocab, spec.d_model));
        } else {
            DW_ASSIGN(spec.output, multiplying("token_embd.weight", spec.embedding));
        }
        if (file_.tensor("rope_freqs.weight") != nullptr) {
            DW_ASSIGN(const auto factors, floats("rope_freqs.weight", spec.head_dim / 2));
            spec.rope_factors.assign(factors.begin(), factors.end());
        }
        return {};
    }

    Result<void> layer(const std::string& at) {
        const DecoderSpec& spec = out_.spec;
        const uint64_t q = uint64_t{spec.heads} * spec.head_dim;
        const uint64_t kv = uint64_t{spec.kv_heads} * spec.head_dim;
        if (q > std::numeric_limits<uint32_t>::max() || kv > std::numeric_limits<uint32_t>::max()) {
            return file_.failure(ErrorCode::kLimit, "heads of " + std::to_string(q) + " values together");
        }
        DecoderLayer layer;
        DW_ASSIGN(layer.attn_norm, floats(at + "attn_norm.weight", spec.d_model));
        DW_ASSIGN(layer.wq, linear(at + "attn_q.weight", q, spec.d_model));
        DW_ASSIGN(layer.wk, linear(at + "attn_k.weight", kv, spec.d_model));
        DW_ASSIGN(layer.wv, linear(at + "attn_v.weight", kv, spec.d_model));
        DW_ASSIGN(layer.wo, linear(at + "attn_output.weight", spec.d_model, q));
        DW_ASSIGN(layer.ffn_norm, floats(at + "ffn_norm.weight", spec.d_model));
        DW_ASSIGN(layer.w_gate, linear(at + "ffn_gate.weight", spec.d_ff, spec.d_model));
        DW_ASSIGN(layer.w_up, linear(at + "ffn_up.weight", spec.d_ff, spec.d_model));
        DW_ASSIGN(layer.w_down, linear(at + "ffn_down.weight", spec.d_model, spec.d_ff));
        out_.spec.layer.push_back(layer);
        return {};
    }

    // A tensor that nobody uses (a bias, say) would make another model of this one.
    Result<void> nothing_left() {
        for (const auto& [name, tensor] : file_.tensors()) {
            if (!used_.contains(name)) {
                return file_.failure(ErrorCode::kUnsupported, "tensor '" + std::string(name) + "' has no place in it");
            }
        }
        return {};
    }

    const Gguf& file_;
    std::optional<compute::ActivationBits> bits_;
    LlamaWeights out_;
    std::set<std::string_view> used_;
};

}  // namespace

Result<LlamaWeights> read_llama(const Gguf& file, std::optional<compute::ActivationBits> bits) {
    return Reader(file, bits).run();
}

}  // namespace driftwood::model
