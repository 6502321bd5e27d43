// blake3 (https://github.com/BLAKE3-team/BLAKE3), the one content hash of this project.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace driftwood::file {

using Hash = std::array<uint8_t, 32>;

Hash blake3(std::span<const uint8_t> bytes);

// Lower-case hex, 64 characters.
std::string to_hex(const Hash& hash);
Result<Hash> hash_from_hex(std::string_view text);

// The hash of a long or structured thing. Not thread-safe. Every variable-length piece is prefixed by its length when
// it goes through field(), so that different structures cannot collide.
class Hasher {
  public:
    Hasher();
    ~Hasher();
    Hasher(const Hasher&) = delete;
    Hasher& operator=(const Hasher&) = delete;
    void update(std::span<const uint8_t> bytes);
    void field(std::span<const uint8_t> bytes);
    void field(std::string_view text);
    void field_u64(uint64_t value);
    Hash finish() const;

  private:
    void* impl_;
};

}  // namespace driftwood::file
