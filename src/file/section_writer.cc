#include <algorithm>
#include <cstring>
#include <utility>

#include "file/atomic_file.h"
#include "file/hash.h"
#include "file/safetensors_header.h"
#include "file/section.h"

namespace driftwood::file {
namespace {

// What is hashed and written at a time: small enough that the second look at it finds it in the cache.
constexpr size_t kWriteBytes = 16 * kHashSpan;

using NamedTensors = std::vector<std::pair<std::string, TensorInfo>>;

uint64_t align_up(uint64_t value) { return (value + kSectionAlign - 1) / kSectionAlign * kSectionAlign; }

// Writes the data section front to back and keeps the hash of every span of it.
class SpanStream {
  public:
    SpanStream(AtomicFile& file, uint64_t file_offset) : file_(file), file_offset_(file_offset) {
        partial_.reserve(kHashSpan);
    }

    Result<void> append(std::span<const uint8_t> bytes) {
        while (!bytes.empty()) {
            if (partial_.empty() && bytes.size() >= kHashSpan) {
                const size_t whole = std::min(bytes.size() / kHashSpan * kHashSpan, kWriteBytes);
                DW_TRY(emit(bytes.first(whole)));
                bytes = bytes.subspan(whole);
                continue;
            }
            const size_t taken = std::min(bytes.size(), static_cast<size_t>(kHashSpan) - partial_.size());
            partial_.insert(partial_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(taken));
            bytes = bytes.subspan(taken);
            if (partial_.size() == kHashSpan) DW_TRY(flush());
        }
        return {};
    }

    // Fills the span begun with zeros.
    Result<void> pad() {
        if (partial_.empty()) return {};
        partial_.resize(kHashSpan);
        return flush();
    }

    const std::vector<uint8_t>& table() const { return table_; }

  private:
    Result<void> flush() {
        DW_TRY(emit(partial_));
        partial_.clear();
        return {};
    }

    Result<void> emit(std::span<const uint8_t> spans) {
        for (size_t at = 0; at < spans.size(); at += kHashSpan) {
            const std::span<const uint8_t> span = spans.subspan(at, kHashSpan);
            const Hash hash = all_zero(span) ? zero_hash_ : blake3(span);
            table_.insert(table_.end(), hash.begin(), hash.end());
        }
        DW_TRY(file_.write(file_offset_, spans));
        file_offset_ += spans.size();
        return {};
    }

    AtomicFile& file_;
    uint64_t file_offset_;
    std::vector<uint8_t> partial_;
    std::vector<uint8_t> table_;
    const Hash zero_hash_ = blake3(std::vector<uint8_t>(kHashSpan));
};

// The tensors as they will lie in the data section, padding and hash table included.
NamedTensors lay_out(const NamedTensors& tensors) {
    NamedTensors out;
    uint64_t at = 0;
    size_t pads = 0;
    for (const auto& [name, info] : tensors) {
        out.emplace_back(name, info);
        out.back().second.file_offset = at;
        at += info.size_bytes;
        const uint64_t gap = align_up(at) - at;
        if (gap == 0) continue;
        out.emplace_back(std::string(kPadPrefix) + std::to_string(pads++), TensorInfo{DType::kU8, {gap}, at, gap});
        at += gap;
    }
    const uint64_t spans = at / kHashSpan;
    out.emplace_back(std::string(kHashesTensor),
                     TensorInfo{DType::kU8, {spans, sizeof(Hash)}, at, spans * sizeof(Hash)});
    return out;
}

}  // namespace

void SectionWriter::add(std::string name, DType dtype, std::vector<uint64_t> shape,
                        std::vector<std::span<const uint8_t>> pieces) {
    uint64_t given = 0;
    for (const auto& piece : pieces) given += piece.size();
    CHECK(tensor_bytes(dtype, shape) == given);
    CHECK(shape.size() <= kMaxDimensions);
    tensors_.push_back({std::move(name), dtype, std::move(shape), std::move(pieces), {}, nullptr});
}

void SectionWriter::add_owned(std::string name, DType dtype, std::vector<uint64_t> shape, std::vector<uint8_t> bytes) {
    add(std::move(name), dtype, std::move(shape), {bytes});
    tensors_.back().owned = std::move(bytes);  // moving a vector keeps its bytes in place
}

void SectionWriter::add_made(std::string name, DType dtype, std::vector<uint64_t> shape, Fill fill) {
    CHECK(tensor_bytes(dtype, shape).has_value());
    CHECK(shape.size() <= kMaxDimensions);
    tensors_.push_back({std::move(name), dtype, std::move(shape), {}, {}, std::move(fill)});
}

void SectionWriter::set_metadata(std::string key, std::string value) { metadata_[std::move(key)] = std::move(value); }

Result<void> SectionWriter::check_names(const std::string& path) const {
    const auto refused = [&](const std::string& problem) {
        return error(ErrorCode::kInvalidArgument, "[file.commit] " + path + ": " + problem);
    };
    std::vector<std::string_view> names;
    for (const Tensor& tensor : tensors_) {
        if (tensor.name == kMetadataKey || tensor.name == kHashesTensor || tensor.name.starts_with(kPadPrefix)) {
            return refused("the file keeps the tensor name " + tensor.name + " for itself");
        }
        names.push_back(tensor.name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) return refused("two tensors are named " + std::string(*twice));
    if (metadata_.contains(std::string(kRootHashKey)))
        return refused("the file keeps the metadata root_hash for itself");
    return {};
}

Result<SectionWriter::Committed> SectionWriter::commit(const std::string& path, CommitOptions options) const {
    SystemFileOps ops;
    return commit(ops, path, options);
}

Result<SectionWriter::Committed> SectionWriter::commit(FileOps& ops, const std::string& path,
                                                       CommitOptions options) const {
    DW_TRY(check_names(path));
    if (!options.replace && ops.exists(path)) {  // said again, and for sure, by publish
        return error(ErrorCode::kAlreadyExists, "[file.commit] " + path + ": exists");
    }
    NamedTensors given;
    for (const Tensor& tensor : tensors_) {
        given.emplace_back(tensor.name,
                           TensorInfo{tensor.dtype, tensor.shape, 0, *tensor_bytes(tensor.dtype, tensor.shape)});
    }
    const NamedTensors layout = lay_out(given);
    std::map<std::string, std::string> metadata = metadata_;
    metadata[std::string(kRootHashKey)] = std::string(kRootHashDigits, '0');
    DW_ASSIGN(std::string text, header_text(metadata, layout));
    const uint64_t data_start = kHeaderLengthBytes + text.size();
    const TensorInfo& hashes = layout.back().second;
    const uint64_t file_bytes = data_start + hashes.file_offset + hashes.size_bytes;

    DW_ASSIGN(AtomicFile file, AtomicFile::create(ops, path, file_bytes));
    SpanStream stream(file, data_start);
    for (const Tensor& tensor : tensors_) {
        for (const auto& piece : tensor.pieces) DW_TRY(stream.append(piece));
        if (tensor.fill) {
            std::vector<uint8_t> made(*tensor_bytes(tensor.dtype, tensor.shape));
            tensor.fill(made);
            DW_TRY(stream.append(made));
        }
        DW_TRY(stream.pad());
    }
    CHECK(stream.table().size() == hashes.size_bytes);
    DW_TRY(file.write(data_start + hashes.file_offset, stream.table()));

    std::vector<uint8_t> header = encode_header(text);
    const std::string root = to_hex(root_hash(header, stream.table()));
    std::memcpy(header.data() + kHeaderLengthBytes + find_root_hash(text).value(), root.data(), root.size());
    DW_TRY(file.write(0, header));
    for (const auto& check : checks_) DW_TRY(check());
    DW_ASSIGN(const uint64_t disk_bytes, file.publish({options.replace, options.durable}));
    return Committed{root, file_bytes, disk_bytes};
}

}  // namespace driftwood::file
