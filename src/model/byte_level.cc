#include "model/byte_level.h"

#include <array>
#include <cstdint>

namespace driftwood::model {

namespace {

// Printable bytes stand for themselves; the others get the characters from U+0100 on, in order.
constexpr std::array<uint16_t, 256> make_alphabet() {
    std::array<uint16_t, 256> alphabet{};
    uint16_t next = 256;
    for (uint16_t byte = 0; byte < 256; ++byte) {
        const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        alphabet[byte] = printable ? byte : next++;
    }
    return alphabet;
}
constexpr std::array<uint16_t, 256> kAlphabet = make_alphabet();
constexpr uint16_t kEnd = 256 + 68;  // 68 bytes are not printable

constexpr std::array<int16_t, kEnd> make_inverse() {
    std::array<int16_t, kEnd> inverse{};
    inverse.fill(-1);
    for (int16_t byte = 0; byte < 256; ++byte) inverse[kAlphabet[static_cast<size_t>(byte)]] = byte;
    return inverse;
}
constexpr std::array<int16_t, kEnd> kInverse = make_inverse();

}  // namespace

std::string byte_level_character(uint8_t byte) {
    const uint16_t point = kAlphabet[byte];
    if (point < 0x80) return std::string(1, static_cast<char>(point));
    return {static_cast<char>(0xC0 | (point >> 6)), static_cast<char>(0x80 | (point & 0x3F))};
}

std::optional<std::string> from_byte_level(std::string_view spelled) {
    std::string bytes;
    for (size_t i = 0; i < spelled.size(); ++i) {
        uint32_t point = static_cast<uint8_t>(spelled[i]);
        if (point >= 0x80) {
            if ((point & 0xE0) != 0xC0 || i + 1 == spelled.size()) return std::nullopt;
            const uint8_t second = static_cast<uint8_t>(spelled[++i]);
            if ((second & 0xC0) != 0x80) return std::nullopt;
            point = (point & 0x1F) << 6 | (second & 0x3F);
        }
        if (point >= kEnd || kInverse[point] < 0) return std::nullopt;
        bytes.push_back(static_cast<char>(kInverse[point]));
    }
    return bytes;
}

std::string to_byte_level(std::string_view bytes) {
    std::string out;
    for (const char byte : bytes) out += byte_level_character(static_cast<uint8_t>(byte));
    return out;
}

}  // namespace driftwood::model
