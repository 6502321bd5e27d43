// An actor that picks the model's tokens itself, always the likeliest: the second level of inference. It says what
// `chat` says when it is greedy. MAX_TOKENS in the environment bounds an answer.
#include <driftwood/actor.h>

#include <algorithm>

namespace {

uint32_t likeliest(std::span<const float> logits) {
    return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

driftwood::Task pick() {
    const char* limit = std::getenv("MAX_TOKENS");
    const unsigned long longest = limit != nullptr ? std::strtoul(limit, nullptr, 10) : 1024;
    auto session = driftwood::Session::open();
    for (;;) {
        session.append("user", (co_await driftwood::receive()).value_or(""));
        session.answer();
        std::vector<float> logits(driftwood::model_info().vocab);
        std::vector<uint32_t> picked;
        for (std::span<const uint32_t> next; picked.size() < longest; next = std::span(picked).last(1)) {
            if (co_await session.decode(next, logits) < 0) break;
            const uint32_t token = likeliest(logits);
            picked.push_back(token);
            if (driftwood::ends_turn(token)) break;
        }
        // The last one is not decoded yet: no logits are wanted behind it, but it belongs to the conversation.
        if (!picked.empty()) co_await session.decode(std::span(picked).last(1), logits);
        driftwood::reply(driftwood::detokenize(picked).value_or(""));
        driftwood::end_reply();
    }
}

}  // namespace

DRIFTWOOD_ACTOR(pick)
