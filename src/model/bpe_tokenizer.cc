#include "model/bpe_tokenizer.h"

#include "base/check.h"
#include "base/utf8.h"
#include "driftwood_deps.h"

namespace driftwood::model {

namespace {

const uint8_t* as_bytes(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

std::string take_text(dwd_buf& buffer) {
    std::string text(reinterpret_cast<const char*>(buffer.data), buffer.len);
    dwd_buf_free(&buffer);
    return text;
}

ErrorCode code_of(int32_t status, ErrorCode invalid) {
    if (status == DWD_PANIC) return ErrorCode::kInternal;
    return status == DWD_REFUSED ? ErrorCode::kUnsupported : invalid;
}

}  // namespace

Result<std::unique_ptr<BpeTokenizer>> BpeTokenizer::make(const std::string& what, const Vocabulary& vocabulary) {
    std::unique_ptr<BpeTokenizer> out(new BpeTokenizer);
    const std::string json = tokenizer_json(vocabulary);
    dwd_tokenizer* library = nullptr;
    dwd_buf failure{};
    const int32_t status = dwd_tokenizer_new(as_bytes(json), json.size(), &library, &failure);
    if (status != DWD_OK) {
        return error(code_of(status, ErrorCode::kCorrupt), "[model.tokenizer] " + what + ": " + take_text(failure));
    }
    out->library_ = library;
    out->normalises_ = vocabulary.pre == PreTokenizer::kQwen2;
    const size_t count = vocabulary.tokens.size();
    out->control_.resize(count);
    out->ends_turn_.resize(count);
    out->bytes_.reserve(count);
    for (uint32_t id = 0; id < count; ++id) {
        out->bytes_.push_back(token_bytes(vocabulary, id));
        if (vocabulary.kinds[id] == TokenKind::kControl) out->control_[id] = vocabulary.tokens[id];
    }
    for (const std::optional<uint32_t>& id : {vocabulary.eos, vocabulary.eot, vocabulary.eom}) {
        if (id) out->ends_turn_[*id] = true;
    }
    return out;
}

BpeTokenizer::~BpeTokenizer() { dwd_tokenizer_free(static_cast<dwd_tokenizer*>(library_)); }

Result<std::vector<uint32_t>> BpeTokenizer::encode(std::string_view text, Special special) const {
    if (text.empty()) return std::vector<uint32_t>();
    if (!is_utf8(text)) return error(ErrorCode::kInvalidArgument, "[model.encode] the text is not UTF-8");
    const uint32_t flags = special == Special::kParse ? DWD_ENCODE_PARSE_SPECIAL : 0;
    dwd_ids encoded{};
    dwd_buf failure{};
    const int32_t status = dwd_tokenizer_encode(static_cast<const dwd_tokenizer*>(library_), as_bytes(text),
                                                text.size(), flags, &encoded, &failure);
    if (status != DWD_OK) {
        return error(code_of(status, ErrorCode::kInvalidArgument), "[model.encode] " + take_text(failure));
    }
    std::vector<uint32_t> ids(encoded.data, encoded.data + encoded.len);
    dwd_ids_free(&encoded);
    for (const uint32_t id : ids) {
        if (id < vocab() && (!bytes_[id].empty() || (special == Special::kParse && !control_[id].empty()))) continue;
        return error(ErrorCode::kUnsupported,
                     "[model.encode] the text becomes token " + std::to_string(id) + ", which is no text");
    }
    if (!normalises_ && !spells(ids, text)) {
        return error(ErrorCode::kUnsupported, "[model.encode] the vocabulary has no tokens for a part of the text");
    }
    return ids;
}

bool BpeTokenizer::spells(const std::vector<uint32_t>& ids, std::string_view text) const {
    for (const uint32_t id : ids) {
        const std::string& piece = control_[id].empty() ? bytes_[id] : control_[id];
        if (!text.starts_with(piece)) return false;
        text.remove_prefix(piece.size());
    }
    return text.empty();
}

std::string_view BpeTokenizer::bytes(uint32_t id) const {
    CHECK(id < vocab());
    return bytes_[id];
}

}  // namespace driftwood::model
