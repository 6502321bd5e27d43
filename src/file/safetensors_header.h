// The header of a safetensors file: its text written, and parsed with nothing taken on trust. Shared by the two ends in
// file/section.h; nobody else needs it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "file/hash.h"
#include "file/section.h"

namespace driftwood::file {

inline constexpr std::string_view kMetadataKey = "__metadata__";
inline constexpr std::string_view kPadPrefix = "__pad.";
inline constexpr std::string_view kHashesTensor = "image.hashes";
inline constexpr std::string_view kRootHashKey = "root_hash";
inline constexpr size_t kRootHashDigits = 64;
inline constexpr size_t kHeaderLengthBytes = 8;  // the little-endian length that comes before the text

// product(shape) × bytes per element, or nothing when that overflows.
std::optional<uint64_t> tensor_bytes(DType dtype, const std::vector<uint64_t>& shape);

struct Header {
    std::map<std::string, std::string> metadata;
    TensorMap tensors;  // all of them
};

// The JSON text, metadata first and tensors in the given order, padded with spaces so that the data section behind it
// starts at a multiple of kSectionAlign. `file_offset` counts from the start of the data section here.
// kInvalidArgument for strings that are not UTF-8, kLimit beyond kMaxHeaderBytes.
Result<std::string> header_text(const std::map<std::string, std::string>& metadata,
                                const std::vector<std::pair<std::string, TensorInfo>>& tensors);

// Where the digits of the root hash stand in the text: what follows `"root_hash":"`, which must occur exactly once.
std::optional<size_t> find_root_hash(std::string_view text);

// The first bytes of the file: the length of `text`, then `text`.
std::vector<uint8_t> encode_header(std::string_view text);

// blake3 over the first bytes of the file (the digits of the root hash all '0') and the table of hashes.
Hash root_hash(std::span<const uint8_t> encoded_header, std::span<const uint8_t> table);

// Parses a header whose data section has `data_bytes` bytes and starts at `data_start` in the file: one JSON object, no
// duplicate names, known fields only, every size as its shape says, tensors contiguous over the whole data section.
// `path` is for the errors.
Result<Header> parse_header(const std::string& path, std::string_view text, uint64_t data_start, uint64_t data_bytes);

}  // namespace driftwood::file
