// The conversation: messages, rewind, fork.
#include "session/session.h"

#include <algorithm>

#include "base/utf8.h"
#include "session/chat_format.h"
#include "session/session_state.h"

namespace driftwood::session {

namespace {

Error invalid(const std::string& message) { return error(ErrorCode::kInvalidArgument, message); }

// What a part becomes that loses tokens at its end.
struct Cut {
    Part part;
    Tail tail = Tail::kClosed;
    Utf8Stream characters;  // of an answer that is open
};

// Part `index` with the tokens before `end` only, at least one: of an answer what was said so far, of anything else raw
// tokens.
Result<Cut> cut_part(const Session::State& s, uint32_t index, uint32_t end) {
    const Part& whole = s.parts[index];
    Cut raw{.part = {.kind = Part::Kind::kTokens, .role = {}, .text = {}}, .characters = {}};
    raw.part.first_token = whole.first_token;
    raw.part.end_token = end;
    if (whole.role != kAssistant) return raw;
    std::vector<std::string> earlier;
    for (uint32_t i = 0; i < index; ++i) {
        if (s.parts[i].kind == Part::Kind::kText) earlier.push_back(s.parts[i].role);
    }
    DW_ASSIGN(const Frame around, frame(s.model, earlier, kAssistant));
    DW_ASSIGN(const auto opening, s.model.tokenizer().encode(around.before, model::Tokenizer::Special::kParse));
    const uint32_t said = whole.first_token + static_cast<uint32_t>(opening.size());
    if (end < said) return raw;
    Cut answer = raw;
    answer.part.kind = Part::Kind::kText;
    answer.part.role = kAssistant;
    answer.tail = Tail::kOpen;
    for (uint32_t i = said; i < end; ++i) {
        if (answer.tail == Tail::kEnded) return raw;  // cut inside what closes it
        answer.part.text += answer.characters.push(s.model.tokenizer().bytes(s.tokens[i]));
        if (!s.model.tokenizer().ends_turn(s.tokens[i])) continue;
        answer.part.text += answer.characters.finish();
        answer.tail = Tail::kEnded;
    }
    answer.part.open = answer.tail == Tail::kOpen;
    return answer;
}

}  // namespace

Session::State::~State() { drop_blocks(0); }

Result<void> Session::State::check_idle(const char* operation) const {
    if (running()) return invalid("[" + std::string(operation) + "] a generate is running");
    if (planned > 0) return invalid("[" + std::string(operation) + "] a step is under way");
    return {};
}

Result<void> Session::State::check_room(const char* operation, size_t more) const {
    if (more <= context() - tokens.size()) return {};
    return error(ErrorCode::kLimit, "[" + std::string(operation) + "] context: " + std::to_string(tokens.size()) +
                                        " tokens and " + std::to_string(more) + " more, the model has " +
                                        std::to_string(context()));
}

std::vector<std::string> Session::State::roles() const {
    std::vector<std::string> out;
    for (const Part& part : parts) {
        if (part.kind == Part::Kind::kText) out.push_back(part.role);
    }
    return out;
}

Result<std::vector<uint32_t>> Session::State::closing(Tail last) const {
    if (last == Tail::kClosed) return std::vector<uint32_t>();
    std::vector<std::string> earlier = roles();
    earlier.pop_back();
    DW_ASSIGN(const Frame answer, frame(model, earlier, kAssistant));
    return encode_closing(model, answer, last == Tail::kEnded);
}

void Session::State::close(const std::vector<uint32_t>& closing_tokens) {
    if (tail == Tail::kClosed) return;
    if (generate && generate->finish == Finish::kPicked) end(Finish::kClosed);
    tokens.insert(tokens.end(), closing_tokens.begin(), closing_tokens.end());
    parts.back().end_token = static_cast<uint32_t>(tokens.size());
    parts.back().open = false;
    tail = Tail::kClosed;
}

void Session::State::add_part(Part part, std::span<const uint32_t> part_tokens) {
    part.first_token = static_cast<uint32_t>(tokens.size());
    tokens.insert(tokens.end(), part_tokens.begin(), part_tokens.end());
    part.end_token = static_cast<uint32_t>(tokens.size());
    parts.push_back(std::move(part));
}

Session::Session(const model::Model& model, compute::Engine& engine, BlockRefs& refs,
                 const std::optional<TrustDomain>& domain)
    : state_(std::make_unique<State>(model, engine, refs)) {
    if (domain && refs.shares_prefixes()) state_->prefix_root = prefix_root(*domain, model.compute_identity());
}

Session::~Session() = default;

Result<uint32_t> Session::append(std::string_view role, std::string_view text) {
    State& s = *state_;
    DW_TRY(s.check_idle("session.append"));
    DW_TRY(check_role(role));
    if (!is_utf8(text)) return invalid("[session.append] the text is not UTF-8");
    DW_ASSIGN(const std::vector<uint32_t> closing, s.closing());
    DW_ASSIGN(const Frame around, frame(s.model, s.roles(), std::string(role)));
    DW_ASSIGN(const std::vector<uint32_t> message, encode_message(s.model, around, text));
    DW_TRY(s.check_room("session.append", closing.size() + message.size()));
    s.close(closing);
    s.add_part({.role = std::string(role), .text = std::string(text)}, message);
    return static_cast<uint32_t>(closing.size() + message.size());
}

Result<uint32_t> Session::append_tokens(std::span<const uint32_t> tokens) {
    State& s = *state_;
    DW_TRY(s.check_idle("session.append_tokens"));
    if (tokens.empty()) return invalid("[session.append_tokens] no tokens");
    for (const uint32_t token : tokens) {
        if (token >= s.model.spec().vocab) {
            return invalid("[session.append_tokens] token " + std::to_string(token) + " of a vocabulary of " +
                           std::to_string(s.model.spec().vocab));
        }
    }
    size_t joining = 0;  // go on with the open answer
    if (s.tail == Tail::kOpen) {
        const auto ends = [&s](uint32_t token) { return s.model.tokenizer().ends_turn(token); };
        const auto end = std::find_if(tokens.begin(), tokens.end(), ends);
        joining = static_cast<size_t>(end - tokens.begin()) + (end == tokens.end() ? 0 : 1);
    }
    const std::span<const uint32_t> rest = tokens.subspan(joining);
    std::vector<uint32_t> closing;
    if (!rest.empty()) {
        DW_ASSIGN(closing, s.closing(joining > 0 ? Tail::kEnded : s.tail));
    }
    DW_TRY(s.check_room("session.append_tokens", closing.size() + tokens.size()));
    if (joining > 0) s.pick(tokens.first(joining));
    if (!rest.empty()) {
        s.close(closing);
        s.add_part({.kind = Part::Kind::kTokens, .role = {}, .text = {}}, rest);
    }
    return static_cast<uint32_t>(closing.size() + tokens.size());
}

Result<std::unique_ptr<Session>> Session::fork() const {
    const State& s = *state_;
    DW_TRY(s.check_idle("session.fork"));
    auto child = std::make_unique<Session>(s.model, s.engine, s.refs);
    State& c = *child->state_;
    c.tokens = s.tokens;
    c.computed = s.computed;
    c.blocks = s.blocks;
    for (const compute::BlockId block : c.blocks) c.refs.share(block);
    c.prefix_root = s.prefix_root;
    c.prefix_keys = s.prefix_keys;
    c.from_image = s.from_image;
    const std::span<const float> logits = s.logits.values();
    if (!logits.empty()) {
        c.logits = compute::Logits(logits.size());
        std::copy(logits.begin(), logits.end(), c.logits.values().begin());
    }
    c.parts = s.parts;
    c.tail = s.tail;
    if (s.generate && s.generate->finish == Finish::kPicked) c.generate = s.generate;
    c.unverified = s.unverified;
    c.image = s.image;
    c.image_kv = s.image_kv;
    c.image_what = s.image_what;
    return child;
}

Result<void> Session::rewind(uint32_t parts) {
    State& s = *state_;
    DW_TRY(s.check_idle("session.rewind"));
    if (parts > s.parts.size()) {
        return invalid("[session.rewind] to " + std::to_string(parts) + " messages of " +
                       std::to_string(s.parts.size()));
    }
    if (parts == s.parts.size()) return {};
    const uint32_t keep = parts == 0 ? 0 : s.parts[parts - 1].end_token;
    if (keep < s.computed) DW_TRY(s.truncate(keep));
    s.tokens.resize(keep);
    s.parts.resize(parts);
    s.tail = Tail::kClosed;  // only the last part can be open, and that one is gone
    if (s.generate && s.generate->part >= parts) s.generate.reset();
    return {};
}

Result<void> Session::rewind_tokens(uint32_t count) {
    State& s = *state_;
    DW_TRY(s.check_idle("session.rewind"));
    if (count > s.tokens.size()) {
        return invalid("[session.rewind] to " + std::to_string(count) + " tokens of " +
                       std::to_string(s.tokens.size()));
    }
    uint32_t keep = 0;
    while (keep < s.parts.size() && s.parts[keep].end_token <= count) ++keep;
    if (count == (keep == 0 ? 0 : s.parts[keep - 1].end_token)) return rewind(keep);
    DW_ASSIGN(Cut cut, cut_part(s, keep, count));
    if (count < s.computed) DW_TRY(s.truncate(count));
    s.tokens.resize(count);
    s.parts.resize(keep);
    s.parts.push_back(std::move(cut.part));
    s.tail = cut.tail;
    if (s.generate && s.generate->part >= keep) s.generate.reset();
    if (s.tail == Tail::kOpen) s.generate = Generate::picked(keep, std::move(cut.characters));
    return {};
}

const std::vector<uint32_t>& Session::tokens() const { return state_->tokens; }
uint32_t Session::computed() const { return state_->computed; }
std::span<const float> Session::last_logits() const { return state_->logits.values(); }
const std::vector<Part>& Session::parts() const { return state_->parts; }
std::span<const compute::BlockId> Session::blocks() const { return state_->blocks; }

}  // namespace driftwood::session
