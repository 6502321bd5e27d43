#include "model/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

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

uint64_t aligned(uint64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

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
    tensor(name, type, std::move(shape), size, 1, [bytes = std::move(data)](uint64_t offset, std::span<uint8_t> out) {
        std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    });
}

void GgufWriter::tensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape, uint64_t size_bytes,
                        uint64_t unit_bytes, TensorSource source) {
    tensors_.push_back({std::string(name), type, std::move(shape), size_bytes, unit_bytes, std::move(source)});
}

void GgufWriter::drop(std::string_view name) {
    std::erase_if(pairs_, [&](const Pair& pair) { return pair.key == name; });
    std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

// Everything before the first tensor's data, padded.
std::vector<uint8_t> GgufWriter::header() const {
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
        offset += aligned(tensor.size_bytes);
    }
    if (!tensors_.empty()) out.resize(aligned(out.size()));
    return out;
}

Result<void> GgufWriter::write(const std::function<Result<void>(std::span<const uint8_t>)>& sink) const {
    Bytes piece = header();
    // Hands over full pieces; what is left stays.
    const auto flush = [&]() -> Result<void> {
        size_t at = 0;
        for (; piece.size() - at >= kPieceBytes; at += kPieceBytes)
            DW_TRY(sink(std::span(piece).subspan(at, kPieceBytes)));
        piece.erase(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(at));
        return {};
    };
    for (const Tensor& tensor : tensors_) {
        piece.resize(aligned(piece.size()));
        const uint64_t chunk = std::max<uint64_t>(1, kPieceBytes / tensor.unit_bytes) * tensor.unit_bytes;
        for (uint64_t offset = 0; offset < tensor.size_bytes; offset += chunk) {
            const uint64_t count = std::min(chunk, tensor.size_bytes - offset);
            piece.resize(piece.size() + count);
            tensor.source(offset, std::span(piece).last(count));
            DW_TRY(flush());
        }
    }
    DW_TRY(flush());
    return piece.empty() ? Result<void>() : sink(piece);
}

uint64_t GgufWriter::size_bytes() const {
    uint64_t size = header().size();
    for (const Tensor& tensor : tensors_) size = aligned(size) + tensor.size_bytes;
    return size;
}

std::vector<uint8_t> GgufWriter::finish() const {
    Bytes out;
    write([&](std::span<const uint8_t> piece) -> Result<void> {
        out.insert(out.end(), piece.begin(), piece.end());
        return {};
    }).value();  // this sink takes everything
    return out;
}

}  // namespace driftwood::model
