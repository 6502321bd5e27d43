// What the shim's tests share: an owner for dwd_buf, and views of strings as the C interface takes them.
#pragma once

#include <driftwood_deps.h>

#include <string>
#include <string_view>
#include <vector>

namespace driftwood::deps {

// Owns one output or error buffer; `out()` frees what it held, so that it can be passed again.
class Buf {
  public:
    Buf() = default;
    Buf(const Buf&) = delete;
    Buf& operator=(const Buf&) = delete;
    ~Buf() { dwd_buf_free(&buf_); }

    dwd_buf* out() {
        dwd_buf_free(&buf_);
        return &buf_;
    }
    std::string str() const { return {reinterpret_cast<const char*>(buf_.data), buf_.len}; }
    std::vector<uint8_t> bytes() const { return {buf_.data, buf_.data + buf_.len}; }

  private:
    dwd_buf buf_{};
};

inline const uint8_t* raw(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

inline bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace driftwood::deps
