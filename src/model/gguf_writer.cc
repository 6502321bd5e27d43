#include "model/gguf_writer.h"

#include <cstring>

#include "model/gguf.h"

namespace driftwood::model {

namespace {

constexpr size_t kAlignment = 32;
using Bytes = std::vector<uint8_t>;

template <class T>
void put(Bytes& out, T value) {
    const size_t at = out.size();
    out.resize(at + sizeof value);
    std::memcpy(out.data() + at, &value, sizeof value);
}

void put_string(Bytes& out, std::string_view text) {
    put(out, uint64_t{text.size()});
    out.insert(out.end(), text.begin(), text.end());
}

void put_type(Bytes& out, GgufType type) { put(out, static_cast<uint32_t>(type)); }

void align(Bytes& out) { out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment); }

}  // namespace

void GgufWriter::u32(std::string_view key, uint32_t value) {
    Bytes& out = pairs_.emplace_back(Pair{std::string(key), {}}).encoded;
    put_type(out, GgufType::kU32);
    put(out, value);
}

void GgufWriter::f32(std::string_view key, float value) {
    Bytes& out = pairs_.emplace_back(Pair{std::string(key), {}}).encoded;
    put_type(out, GgufType::kF32);
    put(out, value);
}

void GgufWriter::string(std::string_view key, std::string_view value) {
    Bytes& out = pairs_.emplace_back(Pair{std::string(key), {}}).encoded;
    put_type(out, GgufType::kString);
    put_string(out, value);
}

void GgufWriter::strings(std::string_view key, std::span<const std::string> values) {
    Bytes& out = pairs_.emplace_back(Pair{std::string(key), {}}).encoded;
    put_type(out, GgufType::kArray);
    put_type(out, GgufType::kString);
    put(out, uint64_t{values.size()});
    for (const std::string& value : values) put_string(out, value);
}

void GgufWriter::i32s(std::string_view key, std::span<const int32_t> values) {
    Bytes& out = pairs_.emplace_back(Pair{std::string(key), {}}).encoded;
    put_type(out, GgufType::kArray);
    put_type(out, GgufType::kI32);
    put(out, uint64_t{values.size()});
    for (const int32_t value : values) put(out, value);
}

void GgufWriter::tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, std::vector<uint8_t> data) {
    tensors_.push_back({std::string(name), type, std::move(shape), std::move(data)});
}

void GgufWriter::drop(std::string_view name) {
    std::erase_if(pairs_, [&](const Pair& pair) { return pair.key == name; });
    std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

std::vector<uint8_t> GgufWriter::finish() const {
    Bytes out = {'G', 'G', 'U', 'F'};
    put(out, uint32_t{3});
    put(out, uint64_t{tensors_.size()});
    put(out, uint64_t{pairs_.size()});
    for (const Pair& pair : pairs_) {
        put_string(out, pair.key);
        out.insert(out.end(), pair.encoded.begin(), pair.encoded.end());
    }
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors_) {
        put_string(out, tensor.name);
        put(out, static_cast<uint32_t>(tensor.shape.size()));
        for (const uint64_t extent : tensor.shape) put(out, extent);
        put(out, tensor.type);
        put(out, offset);
        offset += (tensor.data.size() + kAlignment - 1) / kAlignment * kAlignment;
    }
    for (const Tensor& tensor : tensors_) {
        align(out);
        out.insert(out.end(), tensor.data.begin(), tensor.data.end());
    }
    return out;
}

}  // namespace driftwood::model
