#include "model/llama_weights.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "memory/huge_pages.h"

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
    Reader(const LlamaFile& file, DecoderSpec numbers) : file_(file), names_(file.names()) {
        out_.spec = std::move(numbers);
    }

    Result<LlamaWeights> run() {
        DecoderSpec& spec = out_.spec;
        DW_ASSIGN(spec.embedding, matrix(names_.embedding, spec.vocab, spec.d_model));
        for (uint32_t i = 0; i < spec.layers; ++i) DW_TRY(layer(names_.layer + std::to_string(i) + "."));
        DW_ASSIGN(spec.output_norm, floats(names_.output_norm, spec.d_model));
        if (file_.tensor(names_.output)) {
            DW_ASSIGN(spec.output, linear(names_.output, spec.vocab, spec.d_model));
        } else {
            DW_ASSIGN(spec.output, multiplying(names_.embedding, spec.embedding));
        }
        if (file_.tensor(names_.rope_factors)) {
            DW_ASSIGN(const auto factors, floats(names_.rope_factors, spec.head_dim / 2));
            spec.rope_factors.assign(factors.begin(), factors.end());
        }
        DW_TRY(nothing_left());
        if (auto valid = compute::validate(spec); !valid.ok()) {
            return error(valid.error().code, valid.error().message + " (in " + file_.errors().file + ")");
        }
        return std::move(out_);
    }

  private:
    Error wrong_type(const std::string& name, const FileTensor& tensor, const char* supported) {
        return file_.errors()(ErrorCode::kUnsupported,
                              "tensor '" + name + "' is " + tensor.type_name + ", supported is " + supported);
    }

    Result<FileTensor> take(const std::string& name, std::span<const uint64_t> shape) {
        const std::optional<FileTensor> tensor = file_.tensor(name);
        if (!tensor) return file_.errors()(ErrorCode::kNotFound, "tensor '" + name + "' is missing");
        // Outer extents of 1 say nothing.
        std::span<const uint64_t> got = tensor->shape;
        while (got.size() > shape.size() && got.front() == 1) got = got.subspan(1);
        if (!std::equal(got.begin(), got.end(), shape.begin(), shape.end())) {
            return file_.errors()(ErrorCode::kMismatch, "tensor '" + name + "': want shape " + shape_text(shape) +
                                                            ", file has " + shape_text(tensor->shape));
        }
        used_.insert(name);
        return *tensor;
    }

    // As the file has it.
    Result<MatrixView> matrix(const std::string& name, uint64_t rows, uint64_t cols) {
        const uint64_t shape[] = {rows, cols};
        DW_ASSIGN(const FileTensor tensor, take(name, shape));
        if (!tensor.type) return wrong_type(name, tensor, file_.matrix_types());
        return MatrixView{*tensor.type, static_cast<uint32_t>(rows), static_cast<uint32_t>(cols), tensor.bytes};
    }

    // One that multiplies.
    Result<MatrixView> linear(const std::string& name, uint64_t rows, uint64_t cols) {
        DW_ASSIGN(const MatrixView view, matrix(name, rows, cols));
        return multiplying(name, view);
    }

    Result<MatrixView> multiplying(const std::string& name, const MatrixView& view) {
        if (!compute::is_plain_float(view.type)) return view;
        if (!compute::cols_fit(compute::WeightType::kW16, view.cols)) {
            return file_.errors()(
                ErrorCode::kUnsupported,
                "tensor '" + name + "': rows of " + std::to_string(view.cols) + " values, want a multiple of 32");
        }
        const size_t size = view.rows * compute::row_bytes(compute::WeightType::kW16, view.cols);
        out_.w16.push_back(std::make_unique_for_overwrite<uint8_t[]>(size));
        const std::span<uint8_t> copy(out_.w16.back().get(), size);
        memory::prefer_huge_pages(copy.data(), copy.size());
        if (auto made = compute::weights_to_w16(view, copy); !made.ok()) {
            return file_.errors()(made.error().code, "tensor '" + name + "': " + made.error().message);
        }
        return MatrixView{compute::WeightType::kW16, view.rows, view.cols, copy};
    }

    Result<std::span<const float>> floats(const std::string& name, uint64_t count) {
        const uint64_t shape[] = {count};
        DW_ASSIGN(const FileTensor tensor, take(name, shape));
        if (tensor.type != compute::WeightType::kF32) return wrong_type(name, tensor, "F32");
        std::vector<float>& values = out_.norms.emplace_back(count);
        if (count > 0) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
        return std::span<const float>(values);
    }

    Result<void> layer(const std::string& at) {
        const DecoderSpec& spec = out_.spec;
        const uint64_t q = uint64_t{spec.heads} * spec.head_dim;
        const uint64_t kv = uint64_t{spec.kv_heads} * spec.head_dim;
        if (q > std::numeric_limits<uint32_t>::max() || kv > std::numeric_limits<uint32_t>::max()) {
            return file_.errors()(ErrorCode::kLimit, "heads of " + std::to_string(q) + " values together");
        }
        DecoderLayer layer;
        DW_ASSIGN(layer.attn_norm, floats(at + names_.attn_norm, spec.d_model));
        DW_ASSIGN(layer.wq, linear(at + names_.wq, q, spec.d_model));
        DW_ASSIGN(layer.wk, linear(at + names_.wk, kv, spec.d_model));
        DW_ASSIGN(layer.wv, linear(at + names_.wv, kv, spec.d_model));
        DW_ASSIGN(layer.wo, linear(at + names_.wo, spec.d_model, q));
        DW_ASSIGN(layer.ffn_norm, floats(at + names_.ffn_norm, spec.d_model));
        DW_ASSIGN(layer.w_gate, linear(at + names_.w_gate, spec.d_ff, spec.d_model));
        DW_ASSIGN(layer.w_up, linear(at + names_.w_up, spec.d_ff, spec.d_model));
        DW_ASSIGN(layer.w_down, linear(at + names_.w_down, spec.d_model, spec.d_ff));
        out_.spec.layer.push_back(layer);
        return {};
    }

    // A tensor that nobody uses (a bias, say) would make another model of this one.
    Result<void> nothing_left() {
        for (const std::string_view name : file_.tensors()) {
            if (used_.find(name) == used_.end()) {
                return file_.errors()(ErrorCode::kUnsupported, "tensor '" + std::string(name) + "' has no place in it");
            }
        }
        return {};
    }

    const LlamaFile& file_;
    const LlamaNames& names_;
    LlamaWeights out_;
    std::set<std::string, std::less<>> used_;
};

}  // namespace

Result<LlamaWeights> read_weights(const LlamaFile& file, DecoderSpec numbers) {
    return Reader(file, std::move(numbers)).run();
}

}  // namespace driftwood::model
