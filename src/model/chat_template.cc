#include "model/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "driftwood_deps.h"

namespace driftwood::model {

Result<std::string> ChatTemplate::render(std::span<const Message> messages, bool open_answer) const {
    const std::string where = "[model.render] " + what + ": ";
    if (!source) {
        return error(
            ErrorCode::kUnsupported,
            where + "the file has no chat template (tokenizer.chat_template), so it cannot hold a conversation");
    }
    nlohmann::ordered_json context;
    context["messages"] = nlohmann::ordered_json::array();
    for (const Message& message : messages) {
        if (!is_utf8(message.role) || !is_utf8(message.text)) {
            return error(ErrorCode::kInvalidArgument, where + "a message is not UTF-8");
        }
        context["messages"].push_back({{"role", message.role}, {"content", message.text}});
    }
    context["add_generation_prompt"] = open_answer;
    context["bos_token"] = bos_token;
    context["eos_token"] = eos_token;
    const std::string json = context.dump();
    dwd_buf out{};
    dwd_buf failure{};
    const int32_t status = dwd_template_render(reinterpret_cast<const uint8_t*>(source->data()), source->size(),
                                               reinterpret_cast<const uint8_t*>(json.data()), json.size(),
                                               kTemplateDateSeconds, kTemplateFuel, &out, &failure);
    dwd_buf& filled = status == DWD_OK ? out : failure;
    std::string text(reinterpret_cast<const char*>(filled.data), filled.len);
    dwd_buf_free(&filled);
    if (status == DWD_OK) return text;
    return error(status == DWD_PANIC ? ErrorCode::kInternal : ErrorCode::kInvalidArgument, where + text);
}

}  // namespace driftwood::model
