// The chat actor: one conversation with the model, told message by message, remembered for as long as the actor lives.
// Its settings come from the environment: SYSTEM, TEMPERATURE, TOP_P, TOP_K, MAX_TOKENS, SEED.
#include <driftwood/actor.h>

namespace {

const char* setting(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : otherwise;
}

driftwood_generate_options sampling() {
    return {.temperature = std::strtof(setting("TEMPERATURE", "0"), nullptr),
            .top_p = std::strtof(setting("TOP_P", "0"), nullptr),
            .top_k = static_cast<uint32_t>(std::strtoul(setting("TOP_K", "0"), nullptr, 10)),
            .max_tokens = static_cast<uint32_t>(std::strtoul(setting("MAX_TOKENS", "1024"), nullptr, 10)),
            .seed = std::strtoull(setting("SEED", "0"), nullptr, 10)};
}

std::string_view refusal(int64_t error) {
    switch (-error) {
        case DRIFTWOOD_ENOSPC: return "(This conversation has filled the model's context; I cannot take in more.)";
        case DRIFTWOOD_EINVAL: return "(I cannot read that message: it is not UTF-8, or a setting makes no sense.)";
        case DRIFTWOOD_EOVERFLOW: return "(That message is too long for me.)";
        default: return "(I cannot answer that; my log says why.)";
    }
}

driftwood::Task chat() {
    auto options = sampling();
    auto session = driftwood::Session::open();
    if (const char* system = setting("SYSTEM", nullptr)) session.append("system", system);
    for (;;) {
        const auto message = co_await driftwood::receive();
        if (const int64_t added = session.append("user", message.value_or("")); added < 0) {
            driftwood::reply(refusal(added));
        } else {
            auto answer = session.generate(options);
            if (answer.error() != 0) driftwood::reply(refusal(answer.error()));
            while (auto piece = co_await answer.next()) driftwood::reply(*piece);
            ++options.seed;  // another answer, other random numbers
        }
        driftwood::end_reply();
    }
}

}  // namespace

DRIFTWOOD_ACTOR(chat)
