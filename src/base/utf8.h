// UTF-8 (RFC 3629), one character at a time: what tokens, templates and people's text are checked with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace driftwood {

struct Utf8Char {
    enum class Kind : uint8_t {
        kWhole,    // a character
        kPartial,  // the text ends inside what may become one
        kInvalid,  // bytes that begin no character, however the text goes on
    };
    Kind kind = Kind::kInvalid;
    size_t bytes = 0;  // 1…4; of kInvalid: those that one U+FFFD replaces (Unicode's "maximal subpart")
};

// What the text begins with. Precondition: not empty.
Utf8Char utf8_front(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace driftwood
