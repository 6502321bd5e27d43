// A buffer that a function of deps/ fills: its result or its message. For this folder only.
#pragma once

#include <driftwood_deps.h>

#include <cstdint>
#include <span>
#include <string>

namespace driftwood::wasm {

class Buffer {
  public:
    Buffer() = default;
    ~Buffer() { dwd_buf_free(&buffer_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    dwd_buf* out() { return &buffer_; }
    std::span<const uint8_t> bytes() const { return {buffer_.data, buffer_.len}; }
    std::string text() const { return {bytes().begin(), bytes().end()}; }

  private:
    dwd_buf buffer_{};
};

}  // namespace driftwood::wasm
