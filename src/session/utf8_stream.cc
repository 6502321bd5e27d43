#include "session/utf8_stream.h"

#include <utility>

#include "base/utf8.h"

namespace driftwood::session {

namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
}

bool Utf8Stream::can_hold(std::string_view bytes) {
    if (bytes.empty()) return true;
    const Utf8Char front = utf8_front(bytes);
    return front.kind == Utf8Char::Kind::kPartial && front.bytes == bytes.size();
}

std::string Utf8Stream::push(std::string_view bytes) {
    held_ += bytes;
    std::string_view rest = held_;
    std::string out;
    while (!rest.empty()) {
        const Utf8Char front = utf8_front(rest);
        if (front.kind == Utf8Char::Kind::kPartial) break;
        out += front.kind == Utf8Char::Kind::kWhole ? rest.substr(0, front.bytes) : kReplacement;
        rest.remove_prefix(front.bytes);
    }
    held_ = std::string(rest);
    return out;
}

std::string Utf8Stream::finish() { return std::exchange(held_, {}).empty() ? "" : std::string(kReplacement); }

}  // namespace driftwood::session
