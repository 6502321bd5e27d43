// Utf8Stream: bytes of tokens in, whole UTF-8 characters out. A character that is not complete yet is held back; bytes
// that can become no character come out as U+FFFD, so that text stays text whatever a model says.
#pragma once

#include <string>
#include <string_view>

namespace driftwood::session {

class Utf8Stream {
  public:
    Utf8Stream() = default;
    // Continues with bytes held back earlier. Precondition: can_hold(held).
    explicit Utf8Stream(std::string held) : held_(std::move(held)) {}
    // Whether these bytes are what a stream may hold: nothing, or a part of one character.
    static bool can_hold(std::string_view bytes);

    // The characters that `bytes` completes.
    std::string push(std::string_view bytes);
    // The end: what is held back is no character.
    std::string finish();
    const std::string& held() const { return held_; }

  private:
    std::string held_;
};

}  // namespace driftwood::session
