// ChatTemplate: a model's Jinja template, run as Hugging Face's apply_chat_template runs it. A template is a program
// from a file: it runs with a limit on its work (kTemplateFuel) and sees nothing but the messages.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "model/model.h"

namespace driftwood::model {

inline constexpr uint64_t kTemplateFuel = 10'000'000;  // instructions of one rendering
// The date a template sees, 2024-07-26 (the default of Llama 3's own): with today's, a conversation would not be
// rendered tomorrow as it was today.
inline constexpr int64_t kTemplateDateSeconds = 1'721'952'000;

struct ChatTemplate {
    std::string what;                   // the model's name, for errors
    std::optional<std::string> source;  // absent: every rendering fails with kUnsupported
    std::string bos_token;              // spellings; empty when the file has none
    std::string eos_token;

    // kInvalidArgument carries what the template itself says when it refuses the messages.
    Result<std::string> render(std::span<const Message> messages, bool open_answer) const;
};

}  // namespace driftwood::model
