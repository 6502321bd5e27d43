// GgufWriter: puts a GGUF version 3 file together. For models that this program makes itself (synth.h) and for tests
// that need files with something wrong in them: it writes what it is told.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace driftwood::model {

class GgufWriter {
  public:
    void u32(std::string_view key, uint32_t value);
    void f32(std::string_view key, float value);
    void string(std::string_view key, std::string_view value);
    void strings(std::string_view key, std::span<const std::string> values);
    void i32s(std::string_view key, std::span<const int32_t> values);
    // Shape innermost first; `type` is ggml's number.
    void tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, std::vector<uint8_t> data);
    // One of `size` bytes that `fill` makes when it is written, so that a large file is never in memory as a whole.
    // `fill` is called with zeroed bytes, each time the file is written, and gives the same every time.
    using Fill = std::function<void(std::span<uint8_t> out)>;
    void tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, uint64_t size, Fill fill);

    // Removes what was given this name, a key or a tensor; nothing when there is none.
    void drop(std::string_view name);

    // The file, front to back, in pieces of at most one tensor; stops at the first piece that the sink refuses.
    using Sink = std::function<Result<void>(std::span<const uint8_t> piece)>;
    Result<void> write(const Sink& sink) const;
    std::vector<uint8_t> finish() const;
    uint64_t size_bytes() const;  // of the file, without making the tensors that are filled when written

  private:
    std::vector<uint8_t> head() const;  // everything before the first tensor's bytes

    struct Pair {
        std::string key;
        std::vector<uint8_t> encoded;  // type and value
    };
    struct Tensor {
        std::string name;
        uint32_t type;
        std::vector<uint64_t> shape;
        uint64_t size;
        std::vector<uint8_t> data;  // unless `fill` makes it
        Fill fill;
    };
    std::vector<Pair> pairs_;
    std::vector<Tensor> tensors_;
};

}  // namespace driftwood::model
