#include "file/encoding.h"

#include <bit>
#include <cstring>

namespace driftwood::file {
namespace {

static_assert(std::endian::native == std::endian::little, "the encoding is written as the machine lays integers out");

constexpr size_t kTagBytes = 4;

bool is_tag_letter(uint8_t c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

template <class T>
void append(std::vector<uint8_t>& out, T value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), from, from + sizeof(T));
}

template <class T>
T load(std::span<const uint8_t> bytes) {
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
}

}  // namespace

void Encoder::u8(uint8_t value) { out_.push_back(value); }
void Encoder::u32(uint32_t value) { append(out_, value); }
void Encoder::u64(uint64_t value) { append(out_, value); }
void Encoder::i64(int64_t value) { append(out_, value); }
void Encoder::f32(float value) { append(out_, std::bit_cast<uint32_t>(value)); }

void Encoder::bytes(std::span<const uint8_t> value) {
    u64(value.size());
    out_.insert(out_.end(), value.begin(), value.end());
}

void Encoder::str(std::string_view value) { bytes({reinterpret_cast<const uint8_t*>(value.data()), value.size()}); }

void Encoder::begin_record(std::string_view tag, uint32_t version) {
    CHECK(tag.size() == kTagBytes && version >= 1);
    for (const char c : tag) CHECK(is_tag_letter(static_cast<uint8_t>(c)));
    out_.insert(out_.end(), tag.begin(), tag.end());
    u32(version);
    open_.push_back(out_.size());
    u64(0);  // the length, known at end_record
}

void Encoder::end_record() {
    CHECK(!open_.empty());
    const uint64_t length = out_.size() - open_.back() - sizeof(uint64_t);
    std::memcpy(out_.data() + open_.back(), &length, sizeof(length));
    open_.pop_back();
}

std::vector<uint8_t> Encoder::take() {
    CHECK(open_.empty());
    return std::exchange(out_, {});
}

Error Decoder::corrupt(const std::string& problem) const {
    return error(ErrorCode::kCorrupt,
                 "[file.decode] " + what_ + " at byte " + std::to_string(total_ - bytes_.size()) + ": " + problem);
}

Result<std::span<const uint8_t>> Decoder::take(uint64_t length) {
    if (length > bytes_.size()) {
        return corrupt("want " + std::to_string(length) + " bytes, " + std::to_string(bytes_.size()) + " are left");
    }
    const std::span<const uint8_t> taken = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    return taken;
}

Result<uint8_t> Decoder::u8() {
    DW_ASSIGN(const auto raw, take(sizeof(uint8_t)));
    return raw[0];
}

Result<uint32_t> Decoder::u32() {
    DW_ASSIGN(const auto raw, take(sizeof(uint32_t)));
    return load<uint32_t>(raw);
}

Result<uint64_t> Decoder::u64() {
    DW_ASSIGN(const auto raw, take(sizeof(uint64_t)));
    return load<uint64_t>(raw);
}

Result<int64_t> Decoder::i64() {
    DW_ASSIGN(const auto raw, take(sizeof(int64_t)));
    return load<int64_t>(raw);
}

Result<float> Decoder::f32() {
    DW_ASSIGN(const auto raw, take(sizeof(uint32_t)));
    return std::bit_cast<float>(load<uint32_t>(raw));
}

Result<std::span<const uint8_t>> Decoder::bytes() {
    const std::span<const uint8_t> before = bytes_;
    DW_ASSIGN(const uint64_t length, u64());
    Result<std::span<const uint8_t>> body = take(length);
    if (!body.ok()) bytes_ = before;
    return body;
}

Result<std::string> Decoder::str() {
    DW_ASSIGN(const auto raw, bytes());
    return std::string(raw.begin(), raw.end());
}

Result<uint64_t> Decoder::count(size_t min_bytes_each) {
    CHECK(min_bytes_each > 0);
    const std::span<const uint8_t> before = bytes_;
    DW_ASSIGN(const uint64_t n, u64());
    if (n > bytes_.size() / min_bytes_each) {
        const size_t left = bytes_.size();
        bytes_ = before;
        return corrupt("a count of " + std::to_string(n) + ", but " + std::to_string(left) + " bytes are left");
    }
    return n;
}

Result<std::pair<Decoder::Record, Decoder>> Decoder::record() {
    Decoder next = *this;  // this Decoder moves only when the whole record is there
    DW_ASSIGN(const auto tag, next.take(kTagBytes));
    for (const uint8_t c : tag) {
        if (!is_tag_letter(c)) return corrupt("no record begins here");
    }
    DW_ASSIGN(const uint32_t version, next.u32());
    DW_ASSIGN(const auto body, next.bytes());
    bytes_ = next.bytes_;
    Record head{std::string(tag.begin(), tag.end()), version};
    std::string name = what_ + "." + head.tag;
    return std::pair(std::move(head), Decoder(std::move(name), body));
}

Result<std::pair<Decoder::Record, Decoder>> Decoder::record(std::string_view tag, uint32_t max_version) {
    Decoder next = *this;
    DW_ASSIGN(auto found, next.record());
    const std::string head = "[file.decode] " + what_ + ": want record " + std::string(tag);
    if (found.first.tag != tag) {
        return error(ErrorCode::kUnsupported, head + ", found record " + found.first.tag);
    }
    if (found.first.version < 1 || found.first.version > max_version) {
        return error(ErrorCode::kUnsupported, head + " of version 1 to " + std::to_string(max_version) +
                                                  ", found version " + std::to_string(found.first.version));
    }
    bytes_ = next.bytes_;
    return found;
}

Result<void> Decoder::finish() const {
    if (!at_end()) return corrupt(std::to_string(bytes_.size()) + " bytes too many");
    return {};
}

}  // namespace driftwood::file
