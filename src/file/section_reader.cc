#include <atomic>
#include <cstring>
#include <utility>

#include "file/hash.h"
#include "file/mapped_file.h"
#include "file/safetensors_header.h"
#include "file/section.h"
#include "memory/fault.h"
#include "memory/region.h"

namespace driftwood::file {
namespace {

constexpr size_t kBitsPerWord = 64;

Error corrupt(const std::string& path, const std::string& problem) {
    return error(ErrorCode::kCorrupt, "[file.open] " + path + ": " + problem);
}

// The text of the header, copied out of the file.
Result<std::string> read_header(const MappedFile& file) {
    const std::span<const uint8_t> all = file.bytes();
    if (all.size() < kHeaderLengthBytes) {
        return corrupt(file.path(), "not a safetensors file: it has " + std::to_string(all.size()) + " bytes");
    }
    uint64_t length = 0;
    std::memcpy(&length, all.data(), kHeaderLengthBytes);
    if (length > all.size() - kHeaderLengthBytes) {
        std::string problem =
            "a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(all.size());
        if (all.size() == kHeaderLengthBytes || all[kHeaderLengthBytes] != '{') {
            problem = "not a safetensors file: it has no '{' behind a header's length";
        }
        if (std::memcmp(all.data(), "GGUF", 4) == 0) problem += "; it is a GGUF file, which holds a model";
        return corrupt(file.path(), problem);
    }
    if (length > kMaxHeaderBytes) {
        return error(ErrorCode::kLimit, "[file.open] " + file.path() + ": a header of " + std::to_string(length) +
                                            " bytes, the limit is " + std::to_string(kMaxHeaderBytes));
    }
    const auto* text = reinterpret_cast<const char*>(all.data()) + kHeaderLengthBytes;
    return std::string(text, static_cast<size_t>(length));
}

}  // namespace

struct SectionReader::Impl {
    explicit Impl(MappedFile mapped) : file(std::move(mapped)) {}

    MappedFile file;
    memory::FaultGuard guard;  // of the file's map, and gone before it
    uint64_t data_start = 0;
    bool hashed = false;
    std::map<std::string, std::string> metadata;
    TensorMap tensors;                        // without padding and hashes
    std::vector<uint8_t> table;               // of hashes, copied: it stays what the root hash was checked against
    std::vector<std::atomic<uint64_t>> good;  // one bit per span

    size_t span_count() const { return table.size() / sizeof(Hash); }

    Result<void> check_layout(const TensorMap& all, const TensorInfo& hashes) const;
    Result<void> load_hashes(const std::string& text, const TensorMap& all);
    Result<void> check_hashed() const;
    Result<void> check_intact() const;
    Result<void> verify_span(size_t index);
    Result<void> verify_spans(size_t first, size_t end);
    std::string tensor_at(uint64_t file_offset) const;
};

// What a file of ours promises beyond the format: where things start, and that the hashes cover everything before them.
Result<void> SectionReader::Impl::check_layout(const TensorMap& all, const TensorInfo& hashes) const {
    if (data_start % kSectionAlign != 0) {
        return corrupt(file.path(), "the data section starts at " + std::to_string(data_start) + ", no multiple of " +
                                        std::to_string(kSectionAlign));
    }
    const uint64_t spans = (hashes.file_offset - data_start) / kHashSpan;
    if (hashes.dtype != DType::kU8 || hashes.shape != std::vector<uint64_t>{spans, sizeof(Hash)} ||
        hashes.file_offset + hashes.size_bytes != file.size()) {
        return corrupt(file.path(), "tensor " + std::string(kHashesTensor) + ": want U8 [" + std::to_string(spans) +
                                        ", 32] at the end of the file");
    }
    for (const auto& [name, info] : all) {
        if (!name.starts_with(kPadPrefix) && info.file_offset % kSectionAlign != 0) {
            return corrupt(file.path(), "tensor " + name + " starts at " + std::to_string(info.file_offset) +
                                            ", no multiple of " + std::to_string(kSectionAlign));
        }
    }
    return {};
}

Result<void> SectionReader::Impl::load_hashes(const std::string& text, const TensorMap& all) {
    const auto hashes = all.find(kHashesTensor);
    if (hashes == all.end()) return corrupt(file.path(), "no tensor " + std::string(kHashesTensor));
    DW_TRY(check_layout(all, hashes->second));
    const std::span<const uint8_t> raw = file.bytes().subspan(hashes->second.file_offset, hashes->second.size_bytes);
    table.assign(raw.begin(), raw.end());

    const auto want = metadata.find(std::string(kRootHashKey));
    const std::optional<size_t> at = find_root_hash(text);
    if (want == metadata.end() || !at || text.compare(*at, kRootHashDigits + 1, want->second + '"') != 0) {
        return corrupt(file.path(), "no root_hash in its metadata");
    }
    std::string zeroed = text;
    zeroed.replace(*at, kRootHashDigits, kRootHashDigits, '0');
    const std::string got = to_hex(root_hash(encode_header(zeroed), table));
    if (got != want->second) {
        return corrupt(file.path(), "root hash: the header says " + want->second + ", its bytes give " + got);
    }
    hashed = true;
    good = std::vector<std::atomic<uint64_t>>((span_count() + kBitsPerWord - 1) / kBitsPerWord);
    return {};
}

Result<void> SectionReader::Impl::check_hashed() const {
    if (hashed) return {};
    return error(ErrorCode::kUnsupported, "[file.verify] " + file.path() + ": opened without hashes");
}

Result<void> SectionReader::Impl::verify_span(size_t index) {
    std::atomic<uint64_t>& word = good[index / kBitsPerWord];
    const uint64_t bit = uint64_t{1} << (index % kBitsPerWord);
    // Relaxed: the bit orders nothing, the bytes it speaks of do not change.
    if ((word.load(std::memory_order_relaxed) & bit) != 0) return {};
    const uint64_t offset = data_start + index * kHashSpan;
    const Hash hash = blake3(file.bytes().subspan(offset, kHashSpan));
    if (std::memcmp(hash.data(), table.data() + index * sizeof(Hash), sizeof(Hash)) != 0) {
        return error(ErrorCode::kCorrupt, "[file.verify] " + file.path() + ": " + tensor_at(offset) + ": the " +
                                              std::to_string(kHashSpan) + " bytes at file offset " +
                                              std::to_string(offset) + " do not match their hash");
    }
    word.fetch_or(bit, std::memory_order_relaxed);
    return {};
}

Result<void> SectionReader::Impl::verify_spans(size_t first, size_t end) {
    for (size_t index = first; index < end; ++index) {
        const auto good = verify_span(index);
        DW_TRY(check_intact());  // says more than that zeros do not match their hash
        DW_TRY(good);
    }
    return {};
}

std::string SectionReader::Impl::tensor_at(uint64_t file_offset) const {
    for (const auto& [name, info] : tensors) {
        if (file_offset >= info.file_offset && file_offset - info.file_offset < info.size_bytes)
            return "tensor " + name;
    }
    return "padding";
}

SectionReader::SectionReader() = default;
SectionReader::SectionReader(SectionReader&&) noexcept = default;
SectionReader& SectionReader::operator=(SectionReader&&) noexcept = default;
SectionReader::~SectionReader() = default;

Result<SectionReader> SectionReader::open(const std::string& path, Hashes hashes) {
    DW_ASSIGN(MappedFile file, MappedFile::open(path));
    memory::FaultGuard guard;
    if (hashes == Hashes::kRequired && file.size() > 0) {
        auto* at = const_cast<uint8_t*>(file.bytes().data());
        DW_ASSIGN(guard, memory::FaultGuard::watch(at, memory::round_up_to_page(file.size()),
                                                   memory::FaultGuard::Access::kRead));
    }
    DW_ASSIGN(const std::string text, read_header(file));
    const uint64_t data_start = kHeaderLengthBytes + text.size();
    DW_ASSIGN(Header header, parse_header(path, text, data_start, file.size() - data_start));

    SectionReader reader;
    reader.impl_ = std::make_unique<Impl>(std::move(file));
    reader.impl_->guard = std::move(guard);
    reader.impl_->data_start = data_start;
    reader.impl_->metadata = std::move(header.metadata);
    if (hashes == Hashes::kRequired) DW_TRY(reader.impl_->load_hashes(text, header.tensors));
    DW_TRY(reader.check_intact());
    for (auto& [name, info] : header.tensors) {
        if (name.starts_with(kPadPrefix) || name == kHashesTensor) continue;
        reader.impl_->tensors.emplace(name, std::move(info));
    }
    return reader;
}

int SectionReader::fd() const { return impl_->file.fd(); }
const memory::SharedFile& SectionReader::file() const { return impl_->file.file(); }
const std::string& SectionReader::path() const { return impl_->file.path(); }
uint64_t SectionReader::file_bytes() const { return impl_->file.size(); }
const std::map<std::string, std::string>& SectionReader::metadata() const { return impl_->metadata; }
const TensorMap& SectionReader::tensors() const { return impl_->tensors; }

const TensorInfo* SectionReader::find(std::string_view name) const {
    const auto found = impl_->tensors.find(name);
    return found == impl_->tensors.end() ? nullptr : &found->second;
}

Result<std::string> SectionReader::require_metadata(std::string_view key) const {
    const auto found = impl_->metadata.find(std::string(key));
    if (found != impl_->metadata.end()) return found->second;
    return error(ErrorCode::kNotFound, "[file.section] " + path() + ": no metadata " + std::string(key));
}

Result<TensorInfo> SectionReader::require(std::string_view name, DType dtype, uint64_t inner) const {
    const std::string head = "[file.section] " + path() + ": tensor " + std::string(name);
    const TensorInfo* info = find(name);
    if (info == nullptr) return error(ErrorCode::kNotFound, head + ": not in the file");
    if (info->dtype != dtype) {
        return error(ErrorCode::kMismatch, head + ": want " + std::string(dtype_name(dtype)) + ", file has " +
                                               std::string(dtype_name(info->dtype)));
    }
    const uint64_t elements = info->size_bytes / dtype_size(dtype);
    if (inner == 0 || elements % inner != 0) {
        return error(ErrorCode::kMismatch, head + ": want a multiple of " + std::to_string(inner) +
                                               " elements, file has " + std::to_string(elements));
    }
    return *info;
}

std::span<const uint8_t> SectionReader::bytes(const TensorInfo& tensor) const {
    CHECK(tensor.file_offset <= file_bytes() && tensor.size_bytes <= file_bytes() - tensor.file_offset);
    return impl_->file.bytes().subspan(tensor.file_offset, tensor.size_bytes);
}

Result<void> SectionReader::verify(const TensorInfo& tensor, uint64_t offset_in_tensor, uint64_t length) const {
    DW_TRY(impl_->check_hashed());
    static_cast<void>(bytes(tensor));  // checks that the tensor lies in this file
    const std::string head = "[file.verify] " + path() + ": ";
    if (offset_in_tensor > tensor.size_bytes || length > tensor.size_bytes - offset_in_tensor) {
        return error(ErrorCode::kInvalidArgument, head + std::to_string(length) + " bytes at " +
                                                      std::to_string(offset_in_tensor) + " of a tensor of " +
                                                      std::to_string(tensor.size_bytes));
    }
    if (length == 0) return {};
    const uint64_t first = tensor.file_offset + offset_in_tensor - impl_->data_start;
    const uint64_t last = (first + length - 1) / kHashSpan;
    CHECK(last < impl_->span_count());
    return impl_->verify_spans(first / kHashSpan, last + 1);
}

Result<void> SectionReader::verify_all() const {
    DW_TRY(impl_->check_hashed());
    return impl_->verify_spans(0, impl_->span_count());
}

Result<void> SectionReader::check_intact() const { return impl_->check_intact(); }

Result<void> SectionReader::Impl::check_intact() const {
    if (!guard.failed()) return {};
    return error(ErrorCode::kIo,
                 "[file.verify] " + file.path() + ": the file became shorter or unreadable while it was open");
}

MappedFile SectionReader::release() && {
    impl_->guard = {};  // it may not outlive the map that it guards, which its new owner may end at any time
    MappedFile file = std::move(impl_->file);
    impl_.reset();
    return file;
}

Result<std::span<const uint8_t>> SectionReader::read(std::string_view name, DType dtype, uint64_t inner) const {
    DW_ASSIGN(const TensorInfo info, require(name, dtype, inner));
    DW_TRY(verify(info));
    return bytes(info);
}

}  // namespace driftwood::file
