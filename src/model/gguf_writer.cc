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
    const uint64_t size = data.size();
    tensors_.push_back({std::string(name), type, std::move(shape), size, std::move(data), nullptr});
}

void GgufWriter::tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, uint64_t size, Fill fill) {
    tensors_.push_back({std::string(name), type, std::move(shape), size, {}, std::move(fill)});
}

void GgufWriter::drop(std::string_view name) {
    std::erase_if(pairs_, [&](const Pair& pair) { return pair.key == name; });
    std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

std::vector<uint8_t> GgufWriter::head() const {
    Bytes head = {'G', 'G', 'U', 'F'};
    put(head, uint32_t{3});
    put(head, uint64_t{tensors_.size()});
    put(head, uint64_t{pairs_.size()});
    for (const Pair& pair : pairs_) {
        put_string(head, pair.key);
        head.insert(head.end(), pair.encoded.begin(), pair.encoded.end());
    }
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors_) {
        put_string(head, tensor.name);
        put(head, static_cast<uint32_t>(tensor.shape.size()));
        for (const uint64_t extent : tensor.shape) put(head, extent);
        put(head, tensor.type);
        put(head, offset);
        offset += (tensor.size + kAlignment - 1) / kAlignment * kAlignment;
    }
    return head;
}

Result<void> GgufWriter::write(const Sink& sink) const {
    const Bytes head = this->head();
    // The gap before a tensor is written with what precedes it, so that the last one ends the file.
    uint64_t written = head.size();
    DW_TRY(sink(head));
    for (const Tensor& tensor : tensors_) {
        const Bytes gap((kAlignment - written % kAlignment) % kAlignment);
        DW_TRY(sink(gap));
        Bytes made(tensor.fill ? tensor.size : 0);
        if (tensor.fill) tensor.fill(made);
        DW_TRY(sink(tensor.fill ? made : tensor.data));
        written += gap.size() + tensor.size;
    }
    return {};
}

std::vector<uint8_t> GgufWriter::finish() const {
    Bytes out;
    const Result<void> written = write([&](std::span<const uint8_t> piece) -> Result<void> {
        out.insert(out.end(), piece.begin(), piece.end());
        return {};
    });
    CHECK(written.ok());
    return out;
}

uint64_t GgufWriter::size_bytes() const {
    uint64_t size = head().size();
    for (const Tensor& tensor : tensors_) size = (size + kAlignment - 1) / kAlignment * kAlignment + tensor.size;
    return size;
}

}  // namespace driftwood::model
