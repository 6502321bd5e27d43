#include "session/chat_format.h"

#include <algorithm>

namespace driftwood::session {

namespace {

using model::Message;
using model::Tokenizer;

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
constexpr std::string_view kOpenMark = "\xEE\x80\x80";   // U+E000
constexpr std::string_view kCloseMark = "\xEE\x80\x81";  // U+E001

std::string stand_in(size_t index) { return std::string(kOpenMark) + std::to_string(index) + std::string(kCloseMark); }

Error not_append_only(const model::Model& model, const std::string& why) {
    return error(ErrorCode::kUnsupported,
                 "[session.template] " + model.name() + ": its chat template is not append-only: " + why);
}

Result<std::string> render(const model::Model& model, std::span<const std::string> roles, bool open_answer) {
    if (roles.empty() && !open_answer) return std::string();
    std::vector<Message> messages;
    for (const std::string& role : roles) messages.push_back({role, stand_in(messages.size())});
    return model.render(messages, open_answer);
}

// What is written after `earlier`, which must be where it begins.
Result<std::string> added(const model::Model& model, const std::string& earlier, const std::string& now,
                          const std::string& by) {
    if (!now.starts_with(earlier)) return not_append_only(model, by + " changes what was written before");
    return now.substr(earlier.size());
}

Result<std::vector<uint32_t>> encode_template(const model::Model& model, const std::string& text) {
    return model.tokenizer().encode(text, Tokenizer::Special::kParse);
}

}  // namespace

Result<void> check_role(std::string_view role) {
    if (std::find(std::begin(kRoles), std::end(kRoles), role) != std::end(kRoles)) return {};
    return error(ErrorCode::kInvalidArgument,
                 "[session.append] a role is one of system, developer, user, assistant, tool");
}

Result<Frame> frame(const model::Model& model, std::span<const std::string> earlier, const std::string& role) {
    std::vector<std::string> roles(earlier.begin(), earlier.end());
    DW_ASSIGN(const std::string before, render(model, roles, false));
    roles.push_back(role);
    DW_ASSIGN(const std::string now, render(model, roles, false));
    DW_ASSIGN(const std::string text, added(model, before, now, "a message of " + role));
    const std::string mark = stand_in(earlier.size());
    const size_t at = text.find(mark);
    Frame out;
    if (at != std::string::npos) out = {text.substr(0, at), text.substr(at + mark.size())};
    for (const std::string* part : {&out.before, &out.after}) {
        if (at == std::string::npos || part->find(kOpenMark) != std::string::npos) {
            return not_append_only(model, "it does not write the text of a message of " + role + " just once");
        }
    }
    return out;
}

Result<Frame> answer_frame(const model::Model& model, std::span<const std::string> earlier) {
    DW_ASSIGN(Frame answer, frame(model, earlier, kAssistant));
    DW_ASSIGN(const std::string before, render(model, earlier, false));
    DW_ASSIGN(const std::string open, render(model, earlier, true));
    DW_ASSIGN(const std::string opening, added(model, before, open, "the opening of an answer"));
    if (opening != answer.before) {
        return not_append_only(model, "it opens an answer in another way than it writes one that was given");
    }
    return answer;
}

Result<std::vector<uint32_t>> encode_message(const model::Model& model, const Frame& frame, std::string_view text) {
    DW_ASSIGN(std::vector<uint32_t> tokens, encode_template(model, frame.before));
    DW_ASSIGN(const std::vector<uint32_t> said, model.tokenizer().encode(text, Tokenizer::Special::kText));
    DW_ASSIGN(const std::vector<uint32_t> after, encode_template(model, frame.after));
    tokens.insert(tokens.end(), said.begin(), said.end());
    tokens.insert(tokens.end(), after.begin(), after.end());
    return tokens;
}

Result<std::vector<uint32_t>> encode_closing(const model::Model& model, const Frame& frame, bool ended) {
    DW_ASSIGN(std::vector<uint32_t> tokens, encode_template(model, frame.after));
    if (ended && !tokens.empty() && model.tokenizer().ends_turn(tokens.front())) tokens.erase(tokens.begin());
    return tokens;
}

}  // namespace driftwood::session
