// What a model's chat template writes around the texts of a conversation.
//
// People's text must never be read as the template's: a user who spells "<|end|>" says just that. So the template is
// run on stand-ins for the texts (numbers between two private-use characters), and its rendering is cut where they
// stand: what lies between them is the template's own and is tokenised with special tokens recognised; the texts are
// tokenised by themselves, as plain text, and put in between. It follows that a template which trims or changes texts
// does not do so here, and that tokens never reach across the seam.
//
// A conversation grows at its end and its KV stays, so the template must only ever append: the rendering of the
// messages so far has to be the beginning of the rendering with one more. A template for which that does not hold is
// refused by name (kUnsupported).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model.h"

namespace driftwood::session {

inline constexpr const char* kAssistant = "assistant";

// The template's own text around a message's text.
struct Frame {
    std::string before;
    std::string after;
};

// The frame of a message of `role` that follows messages of `earlier` roles.
Result<Frame> frame(const model::Model& model, std::span<const std::string> earlier, const std::string& role);

// The frame of an answer: as above, and the template opens an answer to `earlier` with just its `before`.
Result<Frame> answer_frame(const model::Model& model, std::span<const std::string> earlier);

// Roles that a message can have: system, developer, user, assistant, tool. A template writes the role itself, beside
// its own marks, so it is not free text. kInvalidArgument names them.
Result<void> check_role(std::string_view role);

// The tokens of `frame` around `text`.
Result<std::vector<uint32_t>> encode_message(const model::Model& model, const Frame& frame, std::string_view text);

// What of `after` still follows an answer. With `ended` the model has written its end-of-turn token itself, so that the
// first token of `after` is left out where it is one.
Result<std::vector<uint32_t>> encode_closing(const model::Model& model, const Frame& frame, bool ended);

}  // namespace driftwood::session
