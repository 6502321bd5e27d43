// A vocabulary as tokenizer.json. The pre-tokenizers are those of the models that tokenizer.ggml.pre names: GPT-2's,
// Llama 3's, Qwen 2's (which also normalises to NFC) and SmolLM's (digits one by one, then GPT-2's).
#include "model/vocabulary.h"

namespace driftwood::model {

namespace {

// Precondition: UTF-8.
void append_quoted(std::string& out, std::string_view text) {
    constexpr char kHex[] = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += "\\u00";
            out += kHex[static_cast<unsigned char>(c) >> 4];
            out += kHex[c & 15];
        } else {
            out += c;
        }
    }
    out += '"';
}

std::string byte_level(bool use_regex) {
    return std::string(R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":)") +
           (use_regex ? "true}" : "false}");
}

// `digits`: the longest run of digits that stays together, as a regex quantifier.
std::string split_then_byte_level(std::string_view digits) {
    const std::string regex = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" + std::string(digits) +
                              R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    std::string out = R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)";
    append_quoted(out, regex);
    return out + R"(},"behavior":"Isolated","invert":false},)" + byte_level(false) + "]}";
}

std::string pre_tokenizer(PreTokenizer pre) {
    switch (pre) {
        case PreTokenizer::kGpt2: return byte_level(true);
        case PreTokenizer::kLlama3: return split_then_byte_level("{1,3}");
        case PreTokenizer::kQwen2: return split_then_byte_level("");
        case PreTokenizer::kSmolLm:
            return R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" +
                   byte_level(true) + "]}";
    }
    check_failed("an unknown pre-tokenizer");
}

void append_added_tokens(std::string& out, const Vocabulary& vocabulary) {
    bool first = true;
    for (uint32_t id = 0; id < vocabulary.tokens.size(); ++id) {
        const TokenKind kind = vocabulary.kinds[id];
        const bool control = kind == TokenKind::kControl;
        if (!control && kind != TokenKind::kUserDefined) continue;
        if (!first) out += ',';
        first = false;
        out += R"({"id":)" + std::to_string(id) + R"(,"content":)";
        append_quoted(out, vocabulary.tokens[id]);
        out += R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":)";
        out += control ? "true}" : "false}";
    }
}

}  // namespace

std::string tokenizer_json(const Vocabulary& vocabulary) {
    std::string out = R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)";
    append_added_tokens(out, vocabulary);
    out += R"(],"normalizer":)";
    out += vocabulary.pre == PreTokenizer::kQwen2 ? R"({"type":"NFC"})" : "null";
    out += R"(,"pre_tokenizer":)" + pre_tokenizer(vocabulary.pre);
    out += R"(,"post_processor":null,"decoder":)" + byte_level(true);
    out += R"(,"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
           R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":)";
    out += vocabulary.pre == PreTokenizer::kLlama3 ? "true" : "false";
    out += R"(,"vocab":{)";
    for (uint32_t id = 0; id < vocabulary.tokens.size(); ++id) {
        if (id != 0) out += ',';
        append_quoted(out, vocabulary.tokens[id]);
        out += ':' + std::to_string(id);
    }
    out += R"(},"merges":[)";
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
        out += i == 0 ? "[" : ",[";
        append_quoted(out, vocabulary.merges[i].first);
        out += ',';
        append_quoted(out, vocabulary.merges[i].second);
        out += ']';
    }
    return out + "]}}";
}

}  // namespace driftwood::model
