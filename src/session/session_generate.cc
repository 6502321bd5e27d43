// The model's answer: begin, sample, output, end.
#include <algorithm>
#include <cstring>

#include "base/utf8.h"
#include "session/chat_format.h"
#include "session/session_state.h"

namespace driftwood::session {

void Session::State::say(std::string_view text) {
    parts[generate->part].text += text;
    if (running()) generate->output += text;
}

void Session::State::end(Finish finish) {
    say(generate->characters.finish());
    generate->finish = finish;
    if (finish != Finish::kEndOfTurn) return;
    parts[generate->part].open = false;
    tail = Tail::kEnded;
}

std::optional<Finish> limit_reached(const Session::State& state) {
    const Generate& generate = *state.generate;
    if (generate.params.max_tokens > 0 && generate.produced >= generate.params.max_tokens) return Finish::kMaxTokens;
    if (state.tokens.size() >= state.context()) return Finish::kContextFull;
    return std::nullopt;
}

Result<uint32_t> Session::State::open_answer(const char* operation, const GenerateParams& params, Finish finish) {
    DW_TRY(check_idle(operation));
    DW_ASSIGN(const std::vector<uint32_t> before, closing());
    DW_ASSIGN(const Frame answer, answer_frame(model, roles()));
    DW_ASSIGN(const std::vector<uint32_t> opening,
              model.tokenizer().encode(answer.before, model::Tokenizer::Special::kParse));
    DW_TRY(check_room(operation, before.size() + opening.size()));
    const size_t total = tokens.size() + before.size() + opening.size();
    if (total == 0) {
        return error(ErrorCode::kInvalidArgument, "[" + std::string(operation) + "] there is nothing to answer to");
    }
    // With nothing left to forward, the last token is forwarded again for its logits, if a rewind took them.
    if (total == computed && logits.empty()) DW_TRY(truncate(computed - 1));
    close(before);
    add_part({.role = kAssistant, .text = {}, .open = true}, opening);
    tail = Tail::kOpen;
    generate = Generate::picked(static_cast<uint32_t>(parts.size() - 1), {});
    generate->params = params;
    generate->finish = finish;
    return static_cast<uint32_t>(before.size() + opening.size());
}

Result<void> Session::begin_generate(const GenerateParams& params) {
    State& s = *state_;
    DW_TRY(s.check_idle("session.generate"));
    DW_TRY(validate(params.sampler));
    DW_TRY(s.open_answer("session.generate", params, Finish::kRunning));
    if (const auto limit = limit_reached(s)) s.end(*limit);
    return {};
}

Result<uint32_t> Session::begin_answer() { return state_->open_answer("session.answer", {}, Finish::kPicked); }

void Session::State::pick(std::span<const uint32_t> picked) {
    if (!generate || generate->finish != Finish::kPicked) {
        generate = Generate::picked(static_cast<uint32_t>(parts.size() - 1), {});
    }
    for (const uint32_t token : picked) {
        tokens.push_back(token);
        if (model.tokenizer().ends_turn(token)) {
            end(Finish::kEndOfTurn);
        } else {
            say(generate->characters.push(model.tokenizer().bytes(token)));
        }
    }
    parts.back().end_token = static_cast<uint32_t>(tokens.size());
}

void Session::end_generate() {
    if (state_->running()) state_->end(Finish::kClosed);
}

bool Session::can_sample() const {
    const State& s = *state_;
    return s.running() && s.planned == 0 && s.computed == s.tokens.size() && !s.logits.empty() &&
           s.generate->output.size() < kMaxUndelivered;
}

Result<void> Session::sample() {
    State& s = *state_;
    if (!can_sample()) return error(ErrorCode::kInvalidArgument, "[session.sample] nothing can be sampled now");
    Generate& generate = *s.generate;
    DW_ASSIGN(const uint32_t token, session::sample(s.logits.values(), generate.params.sampler, generate.produced));
    s.tokens.push_back(token);
    s.parts[generate.part].end_token = static_cast<uint32_t>(s.tokens.size());
    ++generate.produced;
    if (s.model.tokenizer().ends_turn(token)) {
        s.end(Finish::kEndOfTurn);
        return {};
    }
    s.say(generate.characters.push(s.model.tokenizer().bytes(token)));
    if (const auto limit = limit_reached(s)) s.end(*limit);
    return {};
}

Finish Session::finish() const { return state_->generate ? state_->generate->finish : Finish::kClosed; }

size_t Session::output_bytes() const { return state_->generate ? state_->generate->output.size() : 0; }

size_t Session::take_output(std::span<uint8_t> out) {
    if (!state_->generate) return 0;
    std::string& output = state_->generate->output;
    size_t taken = 0;
    while (taken < output.size()) {
        const Utf8Char front = utf8_front(std::string_view(output).substr(taken));
        if (front.bytes > out.size() - taken) break;
        taken += front.bytes;
    }
    if (taken > 0) std::memcpy(out.data(), output.data(), taken);
    output.erase(0, taken);
    return taken;
}

}  // namespace driftwood::session
