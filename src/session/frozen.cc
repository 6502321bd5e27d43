#include "session/frozen.h"

#include <cstring>

#include "base/utf8.h"
#include "file/encoding.h"
#include "session/chat_format.h"

namespace driftwood::session {

namespace {

constexpr const char* kTranscriptTag = "TRNS";
constexpr const char* kStateTag = "SESS";
constexpr const char* kGenerateTag = "GENR";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kGenerateVersion = 2;  // 2: an answer may be picked
// A token may go to output when a byte less than kMaxUndelivered waits there; each of its bytes can become a U+FFFD.
constexpr size_t kMaxFrozenOutput = kMaxUndelivered + 4096;

std::span<const uint8_t> as_bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class FrozenReader {
  public:
    FrozenReader(uint32_t id, const file::SectionReader& image) : id_(id), image_(image) {}

    Result<Frozen> run() {
        DW_TRY(tokens());
        DW_TRY(transcript());
        DW_TRY(state());
        return std::move(out_);
    }

  private:
    std::string what(std::string_view part) const { return image_.path() + ": " + tensor_name(id_, part); }

    static Error corrupt(const std::string& what, const std::string& problem) {
        return error(ErrorCode::kCorrupt, "[session.restore] " + what + ": " + problem);
    }

    template <class Enum>
    static Result<Enum> one_of(file::Decoder& in, const char* name, Enum last) {
        DW_ASSIGN(const uint8_t value, in.u8());
        if (value > static_cast<uint8_t>(last))
            return corrupt(in.what(), std::string(name) + " " + std::to_string(value));
        return static_cast<Enum>(value);
    }

    static Result<bool> flag(file::Decoder& in, const char* name) {
        DW_ASSIGN(const uint8_t value, in.u8());
        if (value > 1) return corrupt(in.what(), std::string(name) + " " + std::to_string(value));
        return value != 0;
    }

    Result<void> tokens() {
        DW_ASSIGN(const auto bytes, image_.read(tensor_name(id_, "tokens"), file::DType::kU32));
        out_.tokens.resize(bytes.size() / sizeof(uint32_t));
        if (!bytes.empty()) std::memcpy(out_.tokens.data(), bytes.data(), bytes.size());
        return {};
    }

    Result<void> transcript() {
        DW_ASSIGN(const auto bytes, image_.read(tensor_name(id_, "transcript"), file::DType::kU8));
        file::Decoder in(what("transcript"), bytes);
        DW_ASSIGN(auto record, in.record(kTranscriptTag, kVersion));
        DW_TRY(in.finish());
        file::Decoder& body = record.second;
        constexpr size_t kLeastPartBytes = 1 + 8 + 8 + 4 + 4 + 1;
        DW_ASSIGN(const uint64_t count, body.count(kLeastPartBytes));
        for (uint64_t i = 0; i < count; ++i) DW_TRY(part(body, i + 1 == count));
        DW_TRY(body.finish());
        const size_t covered = out_.parts.empty() ? 0 : out_.parts.back().end_token;
        if (covered != out_.tokens.size()) {
            return corrupt(body.what(), "parts cover " + std::to_string(covered) + " of " +
                                            std::to_string(out_.tokens.size()) + " tokens");
        }
        return {};
    }

    Result<void> part(file::Decoder& in, bool last) {
        Part part;
        DW_ASSIGN(part.kind, one_of(in, "kind", Part::Kind::kTokens));
        DW_ASSIGN(part.role, in.str());
        DW_ASSIGN(part.text, in.str());
        DW_ASSIGN(part.first_token, in.u32());
        DW_ASSIGN(part.end_token, in.u32());
        DW_ASSIGN(part.open, flag(in, "open"));
        const std::string name = "part " + std::to_string(out_.parts.size());
        if (part.kind == Part::Kind::kText && !check_role(part.role).ok())
            return corrupt(in.what(), name + ": its role");
        if (part.kind == Part::Kind::kTokens && (!part.role.empty() || !part.text.empty())) {
            return corrupt(in.what(), name + ": raw tokens with a role or a text");
        }
        if (!is_utf8(part.text)) return corrupt(in.what(), name + ": its text is not UTF-8");
        const uint32_t begin = out_.parts.empty() ? 0 : out_.parts.back().end_token;
        if (part.first_token != begin || part.end_token < begin || part.end_token > out_.tokens.size()) {
            return corrupt(in.what(), name + ": tokens " + std::to_string(part.first_token) + " to " +
                                          std::to_string(part.end_token) + " after " + std::to_string(begin) + " of " +
                                          std::to_string(out_.tokens.size()));
        }
        if (part.open && (!last || part.role != kAssistant)) return corrupt(in.what(), name + ": cannot be open");
        out_.parts.push_back(std::move(part));
        return {};
    }

    Result<void> identity(file::Decoder& in, file::Hash& out) {
        DW_ASSIGN(const auto bytes, in.bytes());
        if (bytes.size() != out.size()) {
            return corrupt(in.what(), "an identity of " + std::to_string(bytes.size()) + " bytes");
        }
        std::memcpy(out.data(), bytes.data(), out.size());
        return {};
    }

    Result<void> state() {
        DW_ASSIGN(const auto bytes, image_.read(tensor_name(id_, "state"), file::DType::kU8));
        file::Decoder in(what("state"), bytes);
        DW_ASSIGN(auto record, in.record(kStateTag, kVersion));
        DW_TRY(in.finish());
        file::Decoder& body = record.second;
        DW_ASSIGN(out_.model_name, body.str());
        DW_TRY(identity(body, out_.compute_identity));
        DW_TRY(identity(body, out_.text_identity));
        DW_ASSIGN(out_.computed, body.u32());
        DW_ASSIGN(out_.tail, one_of(body, "tail", Tail::kEnded));
        DW_ASSIGN(const bool generates, flag(body, "generate"));
        if (out_.computed > out_.tokens.size()) {
            return corrupt(body.what(), std::to_string(out_.computed) + " computed of " +
                                            std::to_string(out_.tokens.size()) + " tokens");
        }
        const bool answer = !out_.parts.empty() && out_.parts.back().role == kAssistant;
        const bool open = !out_.parts.empty() && out_.parts.back().open;
        if (open != (out_.tail == Tail::kOpen) || (out_.tail == Tail::kEnded && !answer)) {
            return corrupt(body.what(), "the last part and the tail disagree");
        }
        if (generates) {
            DW_ASSIGN(auto generate, body.record(kGenerateTag, kGenerateVersion));
            DW_TRY(this->generate(generate.second));
        }
        return body.finish();
    }

    Result<void> generate(file::Decoder& in) {
        Generate g;
        DW_ASSIGN(g.params.sampler.temperature, in.f32());
        DW_ASSIGN(g.params.sampler.top_p, in.f32());
        DW_ASSIGN(g.params.sampler.top_k, in.u32());
        DW_ASSIGN(g.params.sampler.seed, in.u64());
        DW_ASSIGN(g.params.max_tokens, in.u32());
        DW_ASSIGN(g.finish, one_of(in, "finish", Finish::kPicked));
        DW_ASSIGN(g.part, in.u32());
        DW_ASSIGN(g.produced, in.u32());
        DW_ASSIGN(g.output, in.str());
        DW_ASSIGN(std::string held, in.str());
        DW_TRY(in.finish());
        if (!validate(g.params.sampler).ok()) return corrupt(in.what(), "sampling parameters out of range");
        if (g.output.size() > kMaxFrozenOutput || !is_utf8(g.output)) return corrupt(in.what(), "its output");
        if (!Utf8Stream::can_hold(held)) return corrupt(in.what(), "bytes held back that begin no character");
        g.characters = Utf8Stream(std::move(held));
        DW_TRY(check_generate(in.what(), g));
        out_.generate = std::move(g);
        return {};
    }

    Result<void> check_generate(const std::string& what, const Generate& g) const {
        if (g.part >= out_.parts.size() || out_.parts[g.part].role != kAssistant) {
            return corrupt(what, "part " + std::to_string(g.part) + " is no answer");
        }
        const Part& part = out_.parts[g.part];
        const bool running = g.finish == Finish::kRunning;
        if (g.produced > part.end_token - part.first_token) return corrupt(what, "more tokens than its part has");
        if (g.params.max_tokens > 0 && g.produced > g.params.max_tokens)
            return corrupt(what, "more tokens than it may");
        if (!part.text.ends_with(g.output)) return corrupt(what, "output that its answer does not end with");
        const bool used_up = g.params.max_tokens > 0 && g.produced >= g.params.max_tokens;
        if (running && (!part.open || used_up)) return corrupt(what, "it cannot be running");
        if (g.finish == Finish::kEndOfTurn && part.open) return corrupt(what, "its turn has ended and is open");
        const bool picked = g.finish == Finish::kPicked;
        if (picked && (!part.open || !g.output.empty())) return corrupt(what, "it cannot be picked");
        if (!running && !picked && !g.characters.held().empty()) return corrupt(what, "bytes held back after its end");
        return {};
    }

    const uint32_t id_;
    const file::SectionReader& image_;
    Frozen out_;
};

}  // namespace

std::string tensor_name(uint32_t id, std::string_view part) {
    return "session." + std::to_string(id) + "." + std::string(part);
}

std::vector<uint8_t> encode_transcript(const std::vector<Part>& parts) {
    file::Encoder out;
    out.begin_record(kTranscriptTag, kVersion);
    out.u64(parts.size());
    for (const Part& part : parts) {
        out.u8(static_cast<uint8_t>(part.kind));
        out.str(part.role);
        out.str(part.text);
        out.u32(part.first_token);
        out.u32(part.end_token);
        out.u8(part.open ? 1 : 0);
    }
    out.end_record();
    return out.take();
}

std::vector<uint8_t> encode_state(const Session::State& state) {
    file::Encoder out;
    out.begin_record(kStateTag, kVersion);
    out.str(state.model.name());
    out.bytes(state.model.compute_identity());
    out.bytes(state.model.text_identity());
    out.u32(state.computed);
    out.u8(static_cast<uint8_t>(state.tail));
    out.u8(state.generate ? 1 : 0);
    if (state.generate) {
        const Generate& g = *state.generate;
        out.begin_record(kGenerateTag, kGenerateVersion);
        out.f32(g.params.sampler.temperature);
        out.f32(g.params.sampler.top_p);
        out.u32(g.params.sampler.top_k);
        out.u64(g.params.sampler.seed);
        out.u32(g.params.max_tokens);
        out.u8(static_cast<uint8_t>(g.finish));
        out.u32(g.part);
        out.u32(g.produced);
        out.bytes(as_bytes(g.output));
        out.bytes(as_bytes(g.characters.held()));
        out.end_record();
    }
    out.end_record();
    return out.take();
}

Result<Frozen> read_frozen(uint32_t id, const file::SectionReader& image) { return FrozenReader(id, image).run(); }

}  // namespace driftwood::session
