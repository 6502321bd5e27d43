#include "compute/decoder_spec.h"

#include <cmath>

#include "compute/constants.h"

namespace driftwood::compute {

namespace {

// Limits of the engines. Generous for any model of today; they keep every product of shapes inside 64 bits and every
// RoPE angle inside the range of our argument reduction.
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxWidth = 1U << 20;  // d_model, d_ff, heads * head_dim
constexpr uint32_t kMaxVocab = 1U << 24;
constexpr uint32_t kMaxContext = 1U << 20;
constexpr double kMaxRopeTheta = 1e12;

Error bad(const std::string& what, const std::string& want, const std::string& got) {
    return error(ErrorCode::kInvalidArgument, "[compute.spec] " + what + ": want " + want + ", got " + got);
}

Result<void> check_range(const char* name, uint64_t value, uint64_t low, uint64_t high) {
    if (value >= low && value <= high) return {};
    return bad(name, std::to_string(low) + ".." + std::to_string(high), std::to_string(value));
}

Result<void> check_floats(const std::string& name, std::span<const float> values, size_t want) {
    if (values.size() != want) return bad(name, std::to_string(want) + " values", std::to_string(values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
        if (!std::isfinite(values[i])) return bad(name, "finite values", "another at index " + std::to_string(i));
    }
    return {};
}

Result<void> check_matrix(const std::string& name, const MatrixView& matrix, uint32_t rows, uint32_t cols) {
    if (matrix.rows != rows || matrix.cols != cols) {
        return bad(name, std::to_string(rows) + " x " + std::to_string(cols),
                   std::to_string(matrix.rows) + " x " + std::to_string(matrix.cols));
    }
    if (!cols_fit(matrix.type, cols)) {
        return bad(name, "columns that " + std::string(weight_type_name(matrix.type)) + " allows",
                   std::to_string(cols));
    }
    const size_t want = rows * row_bytes(matrix.type, cols);
    if (matrix.bytes.size() != want) {
        return bad(name, std::to_string(want) + " bytes", std::to_string(matrix.bytes.size()));
    }
    if (auto valid = check_weights(matrix); !valid.ok()) {
        return error(valid.error().code, "[compute.spec] " + name + ": " + valid.error().message);
    }
    return {};
}

// One that multiplies.
Result<void> check_linear(const std::string& name, const MatrixView& matrix, uint32_t rows, uint32_t cols) {
    if (is_plain_float(matrix.type)) {
        return bad(name, "quantised weights or W16", std::string(weight_type_name(matrix.type)));
    }
    return check_matrix(name, matrix, rows, cols);
}

Result<void> check_shapes(const DecoderSpec& spec) {
    DW_TRY(check_range("layers", spec.layers, 1, kMaxLayers));
    DW_TRY(check_range("d_model", spec.d_model, kGroup, kMaxWidth));
    DW_TRY(check_range("d_ff", spec.d_ff, kGroup, kMaxWidth));
    DW_TRY(check_range("vocab", spec.vocab, 1, kMaxVocab));
    DW_TRY(check_range("context", spec.context, 1, kMaxContext));
    DW_TRY(check_range("head_dim", spec.head_dim, 2, kMaxHeadDim));
    DW_TRY(check_range("heads", spec.heads, 1, kMaxWidth / spec.head_dim));
    DW_TRY(check_range("kv_heads", spec.kv_heads, 1, spec.heads));
    if (spec.head_dim % 2 != 0) return bad("head_dim", "an even number", std::to_string(spec.head_dim));
    if (spec.heads % spec.kv_heads != 0) {
        return bad("heads", "a multiple of " + std::to_string(spec.kv_heads) + " kv_heads", std::to_string(spec.heads));
    }
    if (spec.layer.size() != spec.layers) {
        return bad("layers", std::to_string(spec.layers), std::to_string(spec.layer.size()));
    }
    return {};
}

Result<void> check_options(const DecoderSpec& spec) {
    if (!(spec.norm_eps >= kTiny && spec.norm_eps <= 1.0F)) {
        return bad("norm_eps", "2^-60..1", std::to_string(spec.norm_eps));
    }
    if (!(spec.rope_theta >= 1.0 && spec.rope_theta <= kMaxRopeTheta)) {
        return bad("rope_theta", "1..1e12", std::to_string(spec.rope_theta));
    }
    if (!spec.rope_factors.empty()) {
        DW_TRY(check_floats("rope_factors", spec.rope_factors, spec.head_dim / 2));
        for (const float factor : spec.rope_factors) {
            // Below 1/2 an angle could leave the range of the argument reduction; above 2^40 it would vanish.
            if (!(factor >= 0.5F && factor <= 0x1p40F)) {
                return bad("rope_factors", "1/2..2^40", std::to_string(factor));
            }
        }
    }
    return {};
}

}  // namespace

uint64_t bytes_of_weights(const DecoderSpec& spec) {
    uint64_t bytes = spec.embedding.bytes.size() + spec.output_norm.size_bytes();
    if (spec.output.bytes.data() != spec.embedding.bytes.data()) bytes += spec.output.bytes.size();
    for (const DecoderLayer& layer : spec.layer) {
        bytes += layer.attn_norm.size_bytes() + layer.ffn_norm.size_bytes();
        for (const MatrixView* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
            bytes += matrix->bytes.size();
        }
    }
    return bytes;
}

Result<void> validate(const DecoderSpec& spec) {
    DW_TRY(check_shapes(spec));
    DW_TRY(check_options(spec));
    const uint32_t q_width = spec.heads * spec.head_dim;
    const uint32_t kv_width = spec.kv_heads * spec.head_dim;
    DW_TRY(check_matrix("embedding", spec.embedding, spec.vocab, spec.d_model));
    for (uint32_t i = 0; i < spec.layers; ++i) {
        const DecoderLayer& layer = spec.layer[i];
        const std::string at = "layers." + std::to_string(i) + ".";
        DW_TRY(check_floats(at + "attn_norm", layer.attn_norm, spec.d_model));
        DW_TRY(check_linear(at + "wq", layer.wq, q_width, spec.d_model));
        DW_TRY(check_linear(at + "wk", layer.wk, kv_width, spec.d_model));
        DW_TRY(check_linear(at + "wv", layer.wv, kv_width, spec.d_model));
        DW_TRY(check_linear(at + "wo", layer.wo, spec.d_model, q_width));
        DW_TRY(check_floats(at + "ffn_norm", layer.ffn_norm, spec.d_model));
        DW_TRY(check_linear(at + "w_gate", layer.w_gate, spec.d_ff, spec.d_model));
        DW_TRY(check_linear(at + "w_up", layer.w_up, spec.d_ff, spec.d_model));
        DW_TRY(check_linear(at + "w_down", layer.w_down, spec.d_model, spec.d_ff));
    }
    DW_TRY(check_floats("output_norm", spec.output_norm, spec.d_model));
    return check_linear("output", spec.output, spec.vocab, spec.d_model);
}

}  // namespace driftwood::compute
