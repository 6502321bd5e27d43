#include "model/vocabulary.h"

#include <unordered_map>

#include "base/utf8.h"
#include "model/byte_level.h"

namespace driftwood::model {

namespace {

struct PreName {
    std::string_view name;
    PreTokenizer pre;
};
constexpr PreName kPreNames[] = {
    {"gpt-2", PreTokenizer::kGpt2},
    {"llama-bpe", PreTokenizer::kLlama3},
    {"qwen2", PreTokenizer::kQwen2},
    {"smollm", PreTokenizer::kSmolLm},
};

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 80)) + "'"; }

class VocabularyReader {
  public:
    explicit VocabularyReader(const Gguf& file) : file_(file) {}

    Result<Vocabulary> run() {
        DW_TRY(check_model());
        DW_TRY(tokens());
        DW_TRY(merges());
        DW_ASSIGN(out_.bos, special("tokenizer.ggml.bos_token_id"));
        DW_ASSIGN(out_.eos, special("tokenizer.ggml.eos_token_id"));
        DW_ASSIGN(out_.eot, special("tokenizer.ggml.eot_token_id"));
        DW_ASSIGN(out_.eom, special("tokenizer.ggml.eom_token_id"));
        return std::move(out_);
    }

  private:
    Result<void> check_model() {
        DW_ASSIGN(const std::string_view model, file_.string("tokenizer.ggml.model"));
        if (model != "gpt2") {
            return file_.failure(ErrorCode::kUnsupported,
                                 "tokenizer.ggml.model " + quoted(model) + ", supported is 'gpt2' (byte-level BPE)");
        }
        DW_ASSIGN(const std::string_view pre, file_.string("tokenizer.ggml.pre"));
        std::string supported;
        for (const PreName& known : kPreNames) {
            if (known.name == pre) {
                out_.pre = known.pre;
                return {};
            }
            supported += (supported.empty() ? "'" : ", '") + std::string(known.name) + "'";
        }
        return file_.failure(ErrorCode::kUnsupported,
                             "tokenizer.ggml.pre " + quoted(pre) + ", supported are " + supported);
    }

    Error bad_token(uint64_t id, const std::string& problem) const {
        return file_.failure(ErrorCode::kCorrupt, "token " + std::to_string(id) + " " + problem);
    }

    Result<void> tokens() {
        DW_ASSIGN(const auto tokens, file_.strings("tokenizer.ggml.tokens"));
        DW_ASSIGN(const std::vector<int32_t> types, file_.i32s("tokenizer.ggml.token_type"));
        if (tokens.empty() || types.size() != tokens.size()) {
            return file_.failure(ErrorCode::kCorrupt, "tokenizer.ggml.token_type: want " +
                                                          std::to_string(tokens.size()) +
                                                          " entries (at least 1), got " + std::to_string(types.size()));
        }
        out_.tokens.assign(tokens.begin(), tokens.end());
        ids_.reserve(tokens.size());
        for (uint32_t id = 0; id < tokens.size(); ++id) {
            const std::string_view token = tokens[id];
            if (token.empty() || token.size() > kMaxTokenBytes) {
                return bad_token(
                    id, "has " + std::to_string(token.size()) + " bytes, want 1 to " + std::to_string(kMaxTokenBytes));
            }
            if (!is_utf8(token)) return bad_token(id, "is not UTF-8");
            if (types[id] < 1 || types[id] > 5) return bad_token(id, "has type " + std::to_string(types[id]));
            out_.kinds.push_back(static_cast<TokenKind>(types[id]));
            if (out_.kinds[id] == TokenKind::kNormal && !from_byte_level(token)) {
                return bad_token(id, "has a character outside the byte alphabet");
            }
            if (!ids_.emplace(token, id).second) return bad_token(id, "comes twice");
        }
        return {};
    }

    Result<void> merges() {
        DW_ASSIGN(const auto merges, file_.strings("tokenizer.ggml.merges"));
        out_.merges.reserve(merges.size());
        for (size_t i = 0; i < merges.size(); ++i) {
            const std::string_view merge = merges[i];
            const size_t space = merge.find(' ');
            const auto bad = [&] {
                return file_.failure(ErrorCode::kCorrupt,
                                     "merge " + std::to_string(i) + " does not join two normal tokens to a third");
            };
            if (space == std::string_view::npos) return bad();
            const std::string_view left = merge.substr(0, space);
            const std::string_view right = merge.substr(space + 1);
            std::string joined(left);
            joined += right;
            // A merge that made a control token would let people's text become one.
            if (!normal(left) || !normal(right) || !normal(joined)) return bad();
            out_.merges.emplace_back(left, right);
        }
        return {};
    }

    bool normal(std::string_view token) const {
        const auto found = ids_.find(token);
        return found != ids_.end() && out_.kinds[found->second] == TokenKind::kNormal;
    }

    Result<std::optional<uint32_t>> special(const char* key) {
        DW_ASSIGN(const std::optional<uint64_t> id, file_.maybe_integer(key));
        if (!id) return std::optional<uint32_t>();
        if (*id >= out_.tokens.size()) {
            return file_.failure(ErrorCode::kCorrupt, std::string(key) + " " + std::to_string(*id) + " of " +
                                                          std::to_string(out_.tokens.size()) + " tokens");
        }
        return std::optional<uint32_t>(static_cast<uint32_t>(*id));
    }

    const Gguf& file_;
    Vocabulary out_;
    std::unordered_map<std::string_view, uint32_t> ids_;
};

}  // namespace

Result<Vocabulary> read_vocabulary(const Gguf& file) { return VocabularyReader(file).run(); }

std::string token_bytes(const Vocabulary& vocabulary, uint32_t id) {
    const std::string_view token = vocabulary.tokens[id];
    switch (vocabulary.kinds[id]) {
        case TokenKind::kNormal: return *from_byte_level(token);
        case TokenKind::kUserDefined: return std::string(token);
        default: return {};
    }
}

}  // namespace driftwood::model
