// load_gguf: the parts of a GGUF file put together as a Model.
#include <mutex>

#include "base/utf8.h"
#include "file/mapped_file.h"
#include "model/bpe_tokenizer.h"
#include "model/chat_template.h"
#include "model/gguf.h"
#include "model/identity.h"
#include "model/llama_spec.h"
#include "model/model.h"
#include "model/vocabulary.h"

namespace driftwood::model {

namespace {

constexpr const char* kTemplateKey = "tokenizer.chat_template";
constexpr const char* kNameKey = "general.name";

class GgufModel final : public Model {
  public:
    static Result<std::unique_ptr<Model>> make(const std::string& what, std::span<const uint8_t> bytes,
                                               std::optional<file::MappedFile> mapped,
                                               std::optional<compute::ActivationBits> activations) {
        DW_ASSIGN(const Gguf file, Gguf::parse(what, bytes));
        std::unique_ptr<GgufModel> out(new GgufModel);
        out->mapped_ = std::move(mapped);
        out->name_ = what;
        if (file.has(kNameKey)) {
            DW_ASSIGN(const std::string_view name, file.string(kNameKey));
            if (!name.empty() && is_utf8(name)) out->name_ = name.substr(0, 256);
        }
        DW_ASSIGN(out->weights_, read_llama(file, activations));
        DW_ASSIGN(const Vocabulary vocabulary, read_vocabulary(file));
        if (vocabulary.tokens.size() != out->weights_.spec.vocab) {
            return file.failure(ErrorCode::kMismatch, std::to_string(vocabulary.tokens.size()) + " tokens, but " +
                                                          std::to_string(out->weights_.spec.vocab) + " embeddings");
        }
        DW_ASSIGN(out->tokenizer_, BpeTokenizer::make(what, vocabulary));
        DW_TRY(out->read_template(file, vocabulary));
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

  private:
    GgufModel() = default;

    Result<void> read_template(const Gguf& file, const Vocabulary& vocabulary) {
        template_.what = name_;
        if (vocabulary.bos) template_.bos_token = vocabulary.tokens[*vocabulary.bos];
        if (vocabulary.eos) template_.eos_token = vocabulary.tokens[*vocabulary.eos];
        if (!file.has(kTemplateKey)) return {};
        DW_ASSIGN(const std::string_view source, file.string(kTemplateKey));
        if (!is_utf8(source)) return file.failure(ErrorCode::kCorrupt, std::string(kTemplateKey) + " is not UTF-8");
        template_.source = source;
        return {};
    }

    std::optional<file::MappedFile> mapped_;
    std::string name_;
    LlamaWeights weights_;
    std::unique_ptr<BpeTokenizer> tokenizer_;
    ChatTemplate template_;
    file::Hash text_identity_{};
    mutable std::once_flag identified_;
    mutable file::Hash compute_identity_{};
};

}  // namespace

Result<std::unique_ptr<Model>> load_gguf(const std::string& path, std::optional<compute::ActivationBits> activations) {
    DW_ASSIGN(file::MappedFile mapped, file::MappedFile::open(path));
    const std::span<const uint8_t> bytes = mapped.bytes();  // the map stays where it is when its owner moves
    return GgufModel::make(path, bytes, std::move(mapped), activations);
}

Result<std::unique_ptr<Model>> load_gguf(const std::string& name, std::span<const uint8_t> bytes,
                                         std::optional<compute::ActivationBits> activations) {
    return GgufModel::make(name, bytes, std::nullopt, activations);
}

}  // namespace driftwood::model
