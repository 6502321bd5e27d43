// GgufWriter: puts a GGUF version 3 file together, in memory or piece by piece into whatever takes it. For models that
// this program makes itself (synth.h) and for tests that need files with something wrong in them: it writes what it is
// told.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace driftwood::model {

// Makes the bytes [offset, offset + out.size()) of a tensor; both are multiples of the tensor's unit.
using TensorSource = std::function<void(uint64_t offset, std::span<uint8_t> out)>;

class GgufWriter {
  public:
    void u32(std::string_view key, uint32_t value);
    void f32(std::string_view key, float value);
    void string(std::string_view key, std::string_view value);
    void strings(std::string_view key, std::span<const std::string> values);
    void i32s(std::string_view key, std::span<const int32_t> values);
    // Shape innermost first; `type` is ggml's number.
    void tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, std::vector<uint8_t> data);
    // A tensor whose bytes are made when they are written, so that a large model needs little memory.
    void tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, uint64_t size_bytes,
                uint64_t unit_bytes, TensorSource source);

    // Removes what was given this name, a key or a tensor; nothing when there is none.
    void drop(std::string_view name);

    // The whole file.
    std::vector<uint8_t> finish() const;

    // Hands the file to `sink` from its first byte to its last, in pieces of kPieceBytes (the last may be shorter), and
    // stops at the first failure, which it returns.
    static constexpr size_t kPieceBytes = size_t{4} << 20;
    Result<void> write(const std::function<Result<void>(std::span<const uint8_t>)>& sink) const;
    uint64_t size_bytes() const;

  private:
    struct Pair {
        std::string key;
        std::vector<uint8_t> encoded;  // type and value
    };
    struct Tensor {
        std::string name;
        uint32_t type;
        std::vector<uint64_t> shape;
        uint64_t size_bytes;
        uint64_t unit_bytes;
        TensorSource source;
    };
    std::vector<uint8_t> header() const;

    std::vector<Pair> pairs_;
    std::vector<Tensor> tensors_;
};

}  // namespace driftwood::model
