// GgufWriter: puts a GGUF version 3 file together in memory. For models that this program makes itself (synth.h) and
// for tests that need files with something wrong in them: it writes what it is told.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

    // Removes what was given this name, a key or a tensor; nothing when there is none.
    void drop(std::string_view name);

    std::vector<uint8_t> finish() const;

  private:
    struct Pair {
        std::string key;
        std::vector<uint8_t> encoded;  // type and value
    };
    struct Tensor {
        std::string name;
        uint32_t type;
        std::vector<uint64_t> shape;
        std::vector<uint8_t> data;
    };
    std::vector<Pair> pairs_;
    std::vector<Tensor> tensors_;
};

}  // namespace driftwood::model
