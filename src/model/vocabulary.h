// Vocabulary: what a model file says about its tokenizer, checked; and the same as a tokenizer.json
// (https://huggingface.co/docs/tokenizers), which is what the tokenizer library reads. Byte-level BPE only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/gguf.h"

namespace driftwood::model {

inline constexpr uint64_t kMaxTokenBytes = 1024;

// The numbers of tokenizer.ggml.token_type.
enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

// How text is cut before BPE: "gpt-2", "llama-bpe", "qwen2" and "smollm" in files.
enum class PreTokenizer : uint8_t { kGpt2, kLlama3, kQwen2, kSmolLm };
std::string_view pre_tokenizer_name(PreTokenizer pre);

// Strings are views into the file.
struct Vocabulary {
    PreTokenizer pre = PreTokenizer::kGpt2;
    std::vector<std::string_view> tokens;  // spelled in the byte alphabet when normal, literal otherwise; unique
    std::vector<TokenKind> kinds;          // [tokens.size()]
    std::vector<std::pair<std::string_view, std::string_view>> merges;  // in order of rank; parts and result are tokens
    std::optional<uint32_t> bos, eos, eot, eom;                         // < tokens.size()
};

// What a file says, views into it, before anybody has looked whether it makes sense.
struct UncheckedVocabulary {
    std::string_view pre;
    std::vector<std::string_view> tokens;
    std::vector<int32_t> kinds;
    std::vector<std::pair<std::string_view, std::string_view>> merges;
    std::optional<uint64_t> bos, eos, eot, eom;
};
// kUnsupported names a pre-tokenizer that is not spoken here, and what is; kCorrupt the token or merge that is wrong.
Result<Vocabulary> checked_vocabulary(const FileErrors& errors, UncheckedVocabulary unchecked);

// kUnsupported also for other models of tokenizers.
Result<Vocabulary> read_vocabulary(const Gguf& file);

// What text a token stands for, in bytes: normal tokens decoded, user-defined ones as they are, others nothing.
std::string token_bytes(const Vocabulary& vocabulary, uint32_t id);

// Control tokens become special added tokens, user-defined ones plain added tokens; ids stay.
std::string tokenizer_json(const Vocabulary& vocabulary);

}  // namespace driftwood::model
