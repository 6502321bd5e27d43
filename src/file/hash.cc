#include "file/hash.h"

#include "driftwood_deps.h"

namespace driftwood::file {
namespace {

dwd_blake3_hasher* as_hasher(void* impl) { return static_cast<dwd_blake3_hasher*>(impl); }

// The value of a lower-case hex digit, or -1.
int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

}  // namespace

Hash blake3(std::span<const uint8_t> bytes) {
    Hash out;
    CHECK(dwd_blake3(bytes.data(), bytes.size(), out.data()) == DWD_OK);
    return out;
}

std::string to_hex(const Hash& hash) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    out.reserve(2 * hash.size());
    for (const uint8_t byte : hash) {
        out.push_back(kDigits[byte >> 4]);
        out.push_back(kDigits[byte & 15]);
    }
    return out;
}

Result<Hash> hash_from_hex(std::string_view text) {
    Hash out{};
    if (text.size() != 2 * out.size()) {
        return error(ErrorCode::kCorrupt, "[file.hash] want " + std::to_string(2 * out.size()) + " hex digits, got " +
                                              std::to_string(text.size()) + " characters");
    }
    for (size_t i = 0; i < out.size(); ++i) {
        const int high = hex_digit(text[2 * i]);
        const int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return error(ErrorCode::kCorrupt,
                         "[file.hash] no lower-case hex digit near character " + std::to_string(2 * i));
        }
        out[i] = static_cast<uint8_t>(high * 16 + low);
    }
    return out;
}

Hasher::Hasher() {
    dwd_blake3_hasher* made = nullptr;
    CHECK(dwd_blake3_new(&made, nullptr) == DWD_OK);
    impl_ = made;
}

Hasher::~Hasher() { dwd_blake3_free(as_hasher(impl_)); }

void Hasher::update(std::span<const uint8_t> bytes) {
    CHECK(dwd_blake3_update(as_hasher(impl_), bytes.data(), bytes.size()) == DWD_OK);
}

void Hasher::field(std::span<const uint8_t> bytes) {
    field_u64(bytes.size());
    update(bytes);
}

void Hasher::field(std::string_view text) {
    field(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

void Hasher::field_u64(uint64_t value) {
    std::array<uint8_t, 8> raw;  // little-endian
    for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<uint8_t>(value >> (8 * i));
    update(raw);
}

Hash Hasher::finish() const {
    Hash out;
    CHECK(dwd_blake3_finish(as_hasher(impl_), out.data()) == DWD_OK);
    return out;
}

}  // namespace driftwood::file
