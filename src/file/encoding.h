// The fixed encoding of small state inside an image: little-endian fixed-width integers, length-prefixed bytes, and
// versioned records. A Decoder never trusts: it returns kCorrupt, never reads past its end, and bounds every count by
// the bytes that are left. A call that fails leaves the Decoder where it was. Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace driftwood::file {

class Encoder {
  public:
    void u8(uint8_t value);
    void u32(uint32_t value);
    void u64(uint64_t value);
    void i64(int64_t value);
    void f32(float value);                       // its bits
    void bytes(std::span<const uint8_t> value);  // u64 length, then the bytes
    void str(std::string_view value);
    // A record: tag (four of A-Z a-z 0-9 _), u32 version (from 1), u64 length; what is written until end_record() is
    // its body. Readers that do not know a tag refuse it by name, so a new feature joins as a new tag. Records nest.
    void begin_record(std::string_view tag, uint32_t version);
    void end_record();

    // Everything written; leaves the Encoder empty. Every record must be closed (CHECK).
    std::vector<uint8_t> take();

  private:
    std::vector<uint8_t> out_;
    std::vector<size_t> open_;
};

class Decoder {
  public:
    // `what` names the thing in errors ("actor.state"). Borrows `bytes`.
    Decoder(std::string what, std::span<const uint8_t> bytes)
        : what_(std::move(what)), bytes_(bytes), total_(bytes.size()) {}

    Result<uint8_t> u8();
    Result<uint32_t> u32();
    Result<uint64_t> u64();
    Result<int64_t> i64();
    Result<float> f32();
    Result<std::span<const uint8_t>> bytes();  // a view into what the Decoder borrows
    Result<std::string> str();                 // any bytes: UTF-8 is for the caller to check
    // A count of things of at least `min_bytes_each`: refused when the rest of the input cannot hold them.
    Result<uint64_t> count(size_t min_bytes_each);

    struct Record {
        std::string tag;
        uint32_t version;
    };
    // The record that comes next and a Decoder of its body; this Decoder moves behind it.
    Result<std::pair<Record, Decoder>> record();
    // As record(), but tag and version must be these (version: 1…`max_version`), else kUnsupported.
    Result<std::pair<Record, Decoder>> record(std::string_view tag, uint32_t max_version);

    bool at_end() const { return bytes_.empty(); }
    // kCorrupt unless everything was read.
    Result<void> finish() const;
    const std::string& what() const { return what_; }

  private:
    Result<std::span<const uint8_t>> take(uint64_t length);
    Error corrupt(const std::string& problem) const;

    std::string what_;
    std::span<const uint8_t> bytes_;  // what is left
    size_t total_;
};

}  // namespace driftwood::file
