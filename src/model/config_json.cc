#include "model/config_json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace driftwood::model {

namespace {

using Json = nlohmann::json;

// Hugging Face's names, and one of our own: 8 or 16.
constexpr const char* kActivationBits = "driftwood_activation_bits";

class Config {
  public:
    Config(const FileErrors& errors, const Json& json) : errors_(errors), json_(json) {}

    Result<LlamaConfig> run() {
        DW_TRY(wants("model_type", "llama"));
        DW_TRY(numbers());
        DW_TRY(options());
        for (const auto& [name, value] : json_.items()) {
            if (!known_.contains(name)) {
                return errors_(ErrorCode::kUnsupported, "config: '" + name.substr(0, 80) + "' is not known here");
            }
        }
        return out_;
    }

  private:
    const Json* find(const char* name) {
        known_.insert(name);
        const auto found = json_.find(name);
        return found == json_.end() ? nullptr : &*found;
    }

    Error mismatch(const char* name, const std::string& want, const Json& got) const {
        return errors_(ErrorCode::kMismatch, "config: '" + std::string(name) + "': want " + want + ", file has a " +
                                                 std::string(got.type_name()));
    }

    Result<const Json*> require(const char* name) {
        const Json* value = find(name);
        if (value == nullptr) {
            return errors_(ErrorCode::kNotFound, "config: '" + std::string(name) + "' is missing");
        }
        return value;
    }

    Result<uint32_t> u32(const char* name) {
        DW_ASSIGN(const Json* value, require(name));
        if (!value->is_number_unsigned()) return mismatch(name, "an integer that is not negative", *value);
        const auto number = value->get<uint64_t>();
        if (number > std::numeric_limits<uint32_t>::max()) {
            return errors_(ErrorCode::kLimit, "config: '" + std::string(name) + "': " + std::to_string(number));
        }
        return static_cast<uint32_t>(number);
    }
    Result<uint32_t> u32_or(const char* name, uint32_t otherwise) {
        return find(name) != nullptr ? u32(name) : Result<uint32_t>(otherwise);
    }

    Result<double> number(const char* name) {
        DW_ASSIGN(const Json* value, require(name));
        if (!value->is_number()) return mismatch(name, "a number", *value);
        return value->get<double>();
    }

    Result<bool> flag(const char* name, bool otherwise) {
        const Json* value = find(name);
        if (value == nullptr) return otherwise;
        if (!value->is_boolean()) return mismatch(name, "true or false", *value);
        return value->get<bool>();
    }

    Result<void> wants(const char* name, const char* want) {
        DW_ASSIGN(const Json* value, require(name));
        if (!value->is_string()) return mismatch(name, std::string("'") + want + "'", *value);
        const auto& got = value->get_ref<const std::string&>();
        if (got == want) return {};
        return errors_(ErrorCode::kUnsupported, "config: '" + std::string(name) + "' is '" + got.substr(0, 80) +
                                                    "', supported is '" + want + "'");
    }

    Result<void> numbers() {
        compute::DecoderSpec& spec = out_.spec;
        DW_ASSIGN(spec.layers, u32("num_hidden_layers"));
        DW_ASSIGN(spec.d_model, u32("hidden_size"));
        DW_ASSIGN(spec.d_ff, u32("intermediate_size"));
        DW_ASSIGN(spec.vocab, u32("vocab_size"));
        DW_ASSIGN(spec.context, u32("max_position_embeddings"));
        DW_ASSIGN(spec.heads, u32("num_attention_heads"));
        DW_ASSIGN(spec.kv_heads, u32_or("num_key_value_heads", spec.heads));
        const char* head_dim = "head_dim";
        if (find(head_dim) == nullptr && (spec.heads == 0 || spec.d_model % spec.heads != 0)) {
            return errors_(ErrorCode::kCorrupt, "config: a hidden_size of " + std::to_string(spec.d_model) + " over " +
                                                    std::to_string(spec.heads) + " heads");
        }
        DW_ASSIGN(spec.head_dim, u32_or(head_dim, spec.heads == 0 ? 0 : spec.d_model / spec.heads));
        DW_ASSIGN(const double eps, number("rms_norm_eps"));
        spec.norm_eps = static_cast<float>(eps);
        if (find("rope_theta") != nullptr) {
            DW_ASSIGN(spec.rope_theta, number("rope_theta"));
        }
        spec.rope_pairs = compute::RopePairs::kHalves;
        return {};
    }

    Result<void> options() {
        DW_ASSIGN(out_.tied, flag("tie_word_embeddings", false));
        if (find("hidden_act") != nullptr) DW_TRY(wants("hidden_act", "silu"));
        for (const char* bias : {"attention_bias", "mlp_bias"}) {
            DW_ASSIGN(const bool has, flag(bias, false));
            if (has) return errors_(ErrorCode::kUnsupported, "config: '" + std::string(bias) + "'");
        }
        const Json* scaling = find("rope_scaling");
        if (scaling != nullptr && !scaling->is_null()) {
            return errors_(ErrorCode::kUnsupported, "config: 'rope_scaling'");
        }
        DW_ASSIGN(const uint32_t bits, u32_or(kActivationBits, 8));
        if (bits != 8 && bits != 16) {
            return errors_(ErrorCode::kUnsupported,
                           "config: '" + std::string(kActivationBits) + "' " + std::to_string(bits) + ": want 8 or 16");
        }
        out_.spec.activation_bits = bits == 16 ? compute::ActivationBits::k16 : compute::ActivationBits::k8;
        return {};
    }

    const FileErrors& errors_;
    const Json& json_;
    LlamaConfig out_;
    std::set<std::string> known_;
};

}  // namespace

Result<LlamaConfig> read_config(const FileErrors& errors, std::string_view text) {
    // nlohmann-json keeps the last of members of one name: two readers might take different ones.
    std::set<std::string> names;
    std::optional<std::string> twice;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (event == Json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
            twice = parsed.get<std::string>();
        }
        return true;
    };
    const Json json = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
    if (!json.is_object()) return errors(ErrorCode::kCorrupt, "config: no JSON object");
    if (twice) return errors(ErrorCode::kCorrupt, "config: '" + twice->substr(0, 80) + "' comes twice");
    return Config(errors, json).run();
}

std::string config_text(const LlamaConfig& config) {
    const compute::DecoderSpec& spec = config.spec;
    const Json json = {{"model_type", "llama"},
                       {"num_hidden_layers", spec.layers},
                       {"hidden_size", spec.d_model},
                       {"intermediate_size", spec.d_ff},
                       {"vocab_size", spec.vocab},
                       {"max_position_embeddings", spec.context},
                       {"num_attention_heads", spec.heads},
                       {"num_key_value_heads", spec.kv_heads},
                       {"head_dim", spec.head_dim},
                       {"rms_norm_eps", static_cast<double>(spec.norm_eps)},
                       {"rope_theta", spec.rope_theta},
                       {"tie_word_embeddings", config.tied},
                       {kActivationBits, compute::bits_of(spec.activation_bits)}};
    return json.dump();
}

}  // namespace driftwood::model
