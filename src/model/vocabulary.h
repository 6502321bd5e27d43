// Vocabulary: what a GGUF file says about its tokenizer, checked; and the same as a tokenizer.json
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

// How text is cut before BPE: the value of tokenizer.ggml.pre.
enum class PreTokenizer : uint8_t { kGpt2, kLlama3, kQwen2, kSmolLm };

// Strings are views into the file.
struct Vocabulary {
    PreTokenizer pre = PreTokenizer::kGpt2;
    std::vector<std::string_view> tokens;  // spelled in the byte alphabet when normal, literal otherwise; unique
    std::vector<TokenKind> kinds;          // [tokens.size()]
    std::vector<std::pair<std::string_view, std::string_view>> merges;  // in order of rank; parts and result are tokens
    std::optional<uint32_t> bos, eos, eot, eom;                         // < tokens.size()
};

// kUnsupported names a tokenizer model or pre-tokenizer that is not spoken here, and what is.
Result<Vocabulary> read_vocabulary(const Gguf& file);

// What text a token stands for, in bytes: normal tokens decoded, user-defined ones as they are, others nothing.
std::string token_bytes(const Vocabulary& vocabulary, uint32_t id);

// Control tokens become special added tokens, user-defined ones plain added tokens; ids stay.
std::string tokenizer_json(const Vocabulary& vocabulary);

}  // namespace driftwood::model
