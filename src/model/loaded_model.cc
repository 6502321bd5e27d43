#include "model/loaded_model.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/utf8.h"
#include "memory/huge_pages.h"
#include "model/bpe_tokenizer.h"
#include "model/chat_template.h"
#include "model/gguf.h"
#include "model/identity.h"
#include "model/llama_spec.h"

namespace driftwood::model {

namespace {

constexpr const char* kTemplateKey = "tokenizer.chat_template";
constexpr const char* kNameKey = "general.name";
constexpr size_t kMaxNameBytes = 256;  // of a model, for people

class LoadedModel final : public Model {
  public:
    static Result<std::unique_ptr<Model>> make(const FileErrors& errors, ModelParts parts) {
        std::unique_ptr<LoadedModel> out(new LoadedModel);
        out->mapped_ = std::move(parts.mapped);
        out->weights_ = std::move(parts.weights);
        out->name_ = errors.file;
        if (!parts.name.empty() && is_utf8(parts.name)) out->name_ = parts.name.substr(0, kMaxNameBytes);
        const Vocabulary& vocabulary = parts.vocabulary;
        if (vocabulary.tokens.size() != out->weights_.spec.vocab) {
            return errors(ErrorCode::kMismatch, std::to_string(vocabulary.tokens.size()) + " tokens, but " +
                                                    std::to_string(out->weights_.spec.vocab) + " embeddings");
        }
        DW_ASSIGN(out->tokenizer_, BpeTokenizer::make(errors.file, vocabulary));
        out->template_.what = out->name_;
        if (vocabulary.bos) out->template_.bos_token = vocabulary.tokens[*vocabulary.bos];
        if (vocabulary.eos) out->template_.eos_token = vocabulary.tokens[*vocabulary.eos];
        if (parts.chat_template) {
            if (!is_utf8(*parts.chat_template)) return errors(ErrorCode::kCorrupt, "its chat template is not UTF-8");
            out->template_.source = *parts.chat_template;
        }
        out->text_identity_ = model::text_identity(vocabulary, out->template_.source);
        return std::unique_ptr<Model>(std::move(out));
    }

    const std::string& name() const override { return name_; }
    const compute::DecoderSpec& spec() const override { return weights_.spec; }
    const Tokenizer& tokenizer() const override { return *tokenizer_; }
    Result<std::string> render(std::span<const Message> messages, bool open_answer) const override {
        return template_.render(messages, open_answer);
    }
    // Reading every weight takes a while, so it waits until somebody asks.
    const file::Hash& compute_identity() const override {
        std::call_once(identified_, [this] { compute_identity_ = model::compute_identity(weights_.spec); });
        return compute_identity_;
    }
    const file::Hash& text_identity() const override { return text_identity_; }

    Result<bool> place_weights(const WeightsOptions& options) override {
        if (!mapped_) return false;
        const bool before = mapped_->is_copy();
        auto placed = model::place_weights(*mapped_, weights_facts(weights_.spec, mapped_->bytes()), options);
        if (options.progress) options.progress(mapped_->size(), mapped_->size());  // it is over, however it ended
        DW_ASSIGN(placed_, std::move(placed));
        return mapped_->is_copy() != before;
    }
    WeightsPlace weights_place() const override {
        if (!mapped_) return {};
        return {.of_file = true,
                .copied = mapped_->is_copy(),
                .file_bytes = mapped_->size(),
                .huge_bytes = memory::bytes_in_huge_pages(mapped_->bytes().data(), mapped_->size()),
                .plan = placed_};
    }

  private:
    LoadedModel() = default;

    std::optional<file::MappedFile> mapped_;
    std::string name_;
    LlamaWeights weights_;
    WeightsPlan placed_;
    std::unique_ptr<BpeTokenizer> tokenizer_;
    ChatTemplate template_;
    file::Hash text_identity_{};
    mutable std::once_flag identified_;
    mutable file::Hash compute_identity_{};
};

Result<std::unique_ptr<Model>> from_gguf(const std::string& what, std::span<const uint8_t> bytes,
                                         std::optional<file::MappedFile> mapped,
                                         std::optional<compute::ActivationBits> activations) {
    DW_ASSIGN(const Gguf file, Gguf::parse(what, bytes));
    ModelParts parts;
    if (file.has(kNameKey)) {
        DW_ASSIGN(parts.name, file.string(kNameKey));
    }
    DW_ASSIGN(parts.weights, read_llama(file, activations));
    DW_ASSIGN(parts.vocabulary, read_vocabulary(file));
    if (file.has(kTemplateKey)) {
        DW_ASSIGN(parts.chat_template, file.string(kTemplateKey));
    }
    parts.mapped = std::move(mapped);
    return make_model(file.errors(), std::move(parts));
}

bool begins_with(std::span<const uint8_t> bytes, std::string_view text, size_t at = 0) {
    return bytes.size() >= at + text.size() && std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

}  // namespace

Result<std::unique_ptr<Model>> make_model(const FileErrors& errors, ModelParts parts) {
    return LoadedModel::make(errors, std::move(parts));
}

Result<std::unique_ptr<Model>> load_model(const std::string& path, std::optional<compute::ActivationBits> activations) {
    DW_ASSIGN(file::MappedFile mapped, file::MappedFile::open(path));
    const std::span<const uint8_t> bytes = mapped.bytes();  // the map stays where it is when its owner moves
    if (begins_with(bytes, "GGUF")) return from_gguf(path, bytes, std::move(mapped), activations);
    // The text of a safetensors header follows its length.
    if (begins_with(bytes, "{", 8)) return load_model_file(path, activations);
    return error(ErrorCode::kCorrupt, "[model.load] " + path +
                                          ": neither a GGUF file nor a safetensors file of ours: it begins with "
                                          "neither 'GGUF' nor a header's length and '{'");
}

Result<std::unique_ptr<Model>> load_gguf(const std::string& name, std::span<const uint8_t> bytes,
                                         std::optional<compute::ActivationBits> activations) {
    return from_gguf(name, bytes, std::nullopt, activations);
}

}  // namespace driftwood::model
