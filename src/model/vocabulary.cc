#include "model/vocabulary.h"

#include <algorithm>
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

class Checker {
  public:
    Checker(const FileErrors& errors, UncheckedVocabulary unchecked)
        : errors_(errors), unchecked_(std::move(unchecked)) {}

    Result<Vocabulary> run() {
        DW_TRY(pre_tokenizer());
        DW_TRY(tokens());
        DW_TRY(merges());
        DW_ASSIGN(out_.bos, special("bos", unchecked_.bos));
        DW_ASSIGN(out_.eos, special("eos", unchecked_.eos));
        DW_ASSIGN(out_.eot, special("eot", unchecked_.eot));
        DW_ASSIGN(out_.eom, special("eom", unchecked_.eom));
        return std::move(out_);
    }

  private:
    Result<void> pre_tokenizer() {
        std::string supported;
        for (const PreName& known : kPreNames) {
            if (known.name == unchecked_.pre) {
                out_.pre = known.pre;
                return {};
            }
            supported += (supported.empty() ? "'" : ", '") + std::string(known.name) + "'";
        }
        return errors_(ErrorCode::kUnsupported,
                       "pre-tokenizer " + quoted(unchecked_.pre) + ", supported are " + supported);
    }

    Error bad_token(uint64_t id, const std::string& problem) const {
        return errors_(ErrorCode::kCorrupt, "token " + std::to_string(id) + " " + problem);
    }

    Result<void> tokens() {
        const std::vector<int32_t>& types = unchecked_.kinds;
        out_.tokens = std::move(unchecked_.tokens);
        if (out_.tokens.empty() || types.size() != out_.tokens.size()) {
            return errors_(ErrorCode::kCorrupt, "types of tokens: want " + std::to_string(out_.tokens.size()) +
                                                    " (at least 1), got " + std::to_string(types.size()));
        }
        ids_.reserve(out_.tokens.size());
        for (uint32_t id = 0; id < out_.tokens.size(); ++id) {
            const std::string_view token = out_.tokens[id];
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
        for (size_t i = 0; i < unchecked_.merges.size(); ++i) {
            const auto& [left, right] = unchecked_.merges[i];
            std::string joined(left);
            joined += right;
            // A merge that made a control token would let people's text become one.
            if (!normal(left) || !normal(right) || !normal(joined)) {
                return errors_(ErrorCode::kCorrupt,
                               "merge " + std::to_string(i) + " does not join two normal tokens to a third");
            }
        }
        out_.merges = std::move(unchecked_.merges);
        return {};
    }

    bool normal(std::string_view token) const {
        const auto found = ids_.find(token);
        return found != ids_.end() && out_.kinds[found->second] == TokenKind::kNormal;
    }

    Result<std::optional<uint32_t>> special(const char* name, const std::optional<uint64_t>& id) {
        if (!id) return std::optional<uint32_t>();
        if (*id >= out_.tokens.size()) {
            return errors_(ErrorCode::kCorrupt, std::string(name) + " token " + std::to_string(*id) + " of " +
                                                    std::to_string(out_.tokens.size()) + " tokens");
        }
        return std::optional<uint32_t>(static_cast<uint32_t>(*id));
    }

    const FileErrors& errors_;
    UncheckedVocabulary unchecked_;
    Vocabulary out_;
    std::unordered_map<std::string_view, uint32_t> ids_;
};

}  // namespace

std::string_view pre_tokenizer_name(PreTokenizer pre) {
    for (const PreName& known : kPreNames) {
        if (known.pre == pre) return known.name;
    }
    check_failed("a pre-tokenizer without a name");
}

Result<Vocabulary> checked_vocabulary(const FileErrors& errors, UncheckedVocabulary unchecked) {
    return Checker(errors, std::move(unchecked)).run();
}

Result<Vocabulary> read_vocabulary(const Gguf& file) {
    DW_ASSIGN(const std::string_view model, file.string("tokenizer.ggml.model"));
    if (model != "gpt2") {
        return file.failure(ErrorCode::kUnsupported,
                            "tokenizer.ggml.model " + quoted(model) + ", supported is 'gpt2' (byte-level BPE)");
    }
    UncheckedVocabulary out;
    DW_ASSIGN(out.pre, file.string("tokenizer.ggml.pre"));
    DW_ASSIGN(const auto tokens, file.strings("tokenizer.ggml.tokens"));
    out.tokens.assign(tokens.begin(), tokens.end());
    DW_ASSIGN(out.kinds, file.i32s("tokenizer.ggml.token_type"));
    DW_ASSIGN(const auto merges, file.strings("tokenizer.ggml.merges"));
    out.merges.reserve(merges.size());
    for (const std::string_view merge : merges) {
        // Without a space the right part is empty, which is no token.
        const size_t space = std::min(merge.find(' '), merge.size());
        out.merges.emplace_back(merge.substr(0, space), merge.substr(std::min(space + 1, merge.size())));
    }
    DW_ASSIGN(out.bos, file.maybe_integer("tokenizer.ggml.bos_token_id"));
    DW_ASSIGN(out.eos, file.maybe_integer("tokenizer.ggml.eos_token_id"));
    DW_ASSIGN(out.eot, file.maybe_integer("tokenizer.ggml.eot_token_id"));
    DW_ASSIGN(out.eom, file.maybe_integer("tokenizer.ggml.eom_token_id"));
    return checked_vocabulary(file.errors(), std::move(out));
}

std::string token_bytes(const Vocabulary& vocabulary, uint32_t id) {
    const std::string_view token = vocabulary.tokens[id];
    switch (vocabulary.kinds[id]) {
        case TokenKind::kNormal: return *from_byte_level(token);
        case TokenKind::kUserDefined: return std::string(token);
        default: return {};
    }
}

}  // namespace driftwood::model
