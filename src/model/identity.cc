#include "model/identity.h"

#include <bit>

#include "compute/engine.h"
#include "compute/kv.h"

namespace driftwood::model {

namespace {

void add_matrix(file::Hasher& out, const std::string& name, const compute::MatrixView& matrix,
                const file::Hash& content) {
    out.field(name);
    out.field(compute::weight_type_name(matrix.type));
    out.field_u64(matrix.rows);
    out.field_u64(matrix.cols);
    out.field(content);
}

void add_matrix(file::Hasher& out, const std::string& name, const compute::MatrixView& matrix) {
    add_matrix(out, name, matrix, file::blake3(matrix.bytes));
}

void add_floats(file::Hasher& out, const std::string& name, std::span<const float> values) {
    out.field(name);
    out.field("F32");
    out.field_u64(values.size());
    out.field(std::span(reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()));
}

void add_id(file::Hasher& out, const std::optional<uint32_t>& id) { out.field_u64(id ? uint64_t{*id} + 1 : 0); }

}  // namespace

file::Hash compute_identity(const compute::DecoderSpec& spec) {
    file::Hasher out;
    out.field("driftwood compute identity 1");
    out.field_u64(compute::kNumericsVersion);
    out.field_u64(compute::kKvLayoutVersion);
    out.field("llama");
    for (const uint32_t number :
         {spec.layers, spec.d_model, spec.heads, spec.kv_heads, spec.head_dim, spec.d_ff, spec.vocab}) {
        out.field_u64(number);
    }
    out.field_u64(std::bit_cast<uint32_t>(spec.norm_eps));
    out.field_u64(std::bit_cast<uint64_t>(spec.rope_theta));
    out.field(spec.rope_pairs == compute::RopePairs::kAdjacent ? "adjacent" : "halves");
    add_floats(out, "rope_factors", spec.rope_factors);
    if (spec.activation_bits == compute::ActivationBits::k16) out.field("activations of 16 bits");

    const file::Hash embedding = file::blake3(spec.embedding.bytes);
    add_matrix(out, "embedding", spec.embedding, embedding);
    for (size_t i = 0; i < spec.layer.size(); ++i) {
        const compute::DecoderLayer& layer = spec.layer[i];
        const std::string at = "layers." + std::to_string(i) + ".";
        add_floats(out, at + "attn_norm", layer.attn_norm);
        add_matrix(out, at + "wq", layer.wq);
        add_matrix(out, at + "wk", layer.wk);
        add_matrix(out, at + "wv", layer.wv);
        add_matrix(out, at + "wo", layer.wo);
        add_floats(out, at + "ffn_norm", layer.ffn_norm);
        add_matrix(out, at + "w_gate", layer.w_gate);
        add_matrix(out, at + "w_up", layer.w_up);
        add_matrix(out, at + "w_down", layer.w_down);
    }
    add_floats(out, "output_norm", spec.output_norm);
    const bool tied = spec.output.bytes.data() == spec.embedding.bytes.data();
    add_matrix(out, "output", spec.output, tied ? embedding : file::blake3(spec.output.bytes));
    return out.finish();
}

file::Hash text_identity(const Vocabulary& vocabulary, const std::optional<std::string>& chat_template) {
    file::Hasher out;
    out.field("driftwood text identity 1");
    out.field_u64(static_cast<uint64_t>(vocabulary.pre));
    out.field_u64(vocabulary.tokens.size());
    for (const std::string_view token : vocabulary.tokens) out.field(token);
    out.field(std::span(reinterpret_cast<const uint8_t*>(vocabulary.kinds.data()), vocabulary.kinds.size()));
    out.field_u64(vocabulary.merges.size());
    for (const auto& [left, right] : vocabulary.merges) {
        out.field(left);
        out.field(right);
    }
    for (const auto& id : {vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.eom}) add_id(out, id);
    out.field_u64(chat_template ? 1 : 0);
    out.field(chat_template.value_or(""));
    return out.finish();
}

}  // namespace driftwood::model
