#include "base/utf8.h"

#include "base/check.h"

namespace driftwood {

namespace {

struct Lead {
    size_t bytes;       // 0: begins no character
    uint8_t low, high;  // range of the second byte: no overlong forms, no surrogates, nothing beyond U+10FFFF
};

Lead lead_of(uint8_t byte) {
    if (byte < 0x80) return {1, 0, 0};
    if (byte < 0xC2) return {0, 0, 0};
    if (byte < 0xE0) return {2, 0x80, 0xBF};
    if (byte == 0xE0) return {3, 0xA0, 0xBF};
    if (byte == 0xED) return {3, 0x80, 0x9F};
    if (byte < 0xF0) return {3, 0x80, 0xBF};
    if (byte == 0xF0) return {4, 0x90, 0xBF};
    if (byte < 0xF4) return {4, 0x80, 0xBF};
    if (byte == 0xF4) return {4, 0x80, 0x8F};
    return {0, 0, 0};
}

}  // namespace

Utf8Char utf8_front(std::string_view text) {
    CHECK(!text.empty());
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const Lead lead = lead_of(byte(0));
    if (lead.bytes == 0) return {Utf8Char::Kind::kInvalid, 1};
    for (size_t i = 1; i < lead.bytes; ++i) {
        if (i == text.size()) return {Utf8Char::Kind::kPartial, i};
        const uint8_t low = i == 1 ? lead.low : 0x80;
        const uint8_t high = i == 1 ? lead.high : 0xBF;
        if (byte(i) < low || byte(i) > high) return {Utf8Char::Kind::kInvalid, i};
    }
    return {Utf8Char::Kind::kWhole, lead.bytes};
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const Utf8Char front = utf8_front(text);
        if (front.kind != Utf8Char::Kind::kWhole) return false;
        text.remove_prefix(front.bytes);
    }
    return true;
}

}  // namespace driftwood
