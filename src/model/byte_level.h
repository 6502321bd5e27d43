// GPT-2's alphabet of bytes: vocabularies of byte-level BPE spell each byte as one printable character
// (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace driftwood::model {

// The character of a byte, as UTF-8.
std::string byte_level_character(uint8_t byte);

// The bytes that such a spelling stands for; nullopt when a character is outside the alphabet.
std::optional<std::string> from_byte_level(std::string_view spelled);
std::string to_byte_level(std::string_view bytes);

}  // namespace driftwood::model
