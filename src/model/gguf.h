// Gguf: a parsed GGUF version 3 file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata and the
// places of tensors, as views into the file's bytes, which outlive it.
//
// Nothing in a file is trusted: every count, length, type, offset and alignment is checked against the limits below and
// against the bytes that are there; a file that breaks a rule is kCorrupt, one beyond a limit kLimit, a well-formed one
// with something this reader does not do kUnsupported, always by name. Little-endian files on little-endian machines.
// Immutable once parsed: any thread may read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/formats.h"
#include "model/file_errors.h"

namespace driftwood::model {

inline constexpr uint64_t kMaxGgufPairs = 65536;  // metadata entries
inline constexpr uint64_t kMaxGgufTensors = 65536;
inline constexpr uint64_t kMaxGgufKeyBytes = 65535;  // the format's own limit
inline constexpr uint64_t kMaxGgufNameBytes = 64;    // of a tensor; the format's own limit
inline constexpr uint64_t kMaxGgufStringBytes = 16u << 20;
inline constexpr uint64_t kMaxGgufArrayLength = 4u << 20;
inline constexpr uint32_t kMaxGgufDimensions = 4;  // the format's own limit
inline constexpr uint32_t kMaxGgufAlignment = 1u << 20;

enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

std::string_view gguf_type_name(GgufType type);

struct GgufValue {
    GgufType type = GgufType::kU8;
    GgufType element = GgufType::kU8;       // of an array
    uint64_t count = 1;                     // elements of an array
    std::span<const uint8_t> bytes;         // the value or the array's elements, unless they are strings
    std::vector<std::string_view> strings;  // one for a string, `count` for an array of strings
};

struct GgufTensor {
    std::string_view name;
    uint32_t type = 0;              // ggml's number: 0 F32, 8 Q8_0, …
    std::vector<uint64_t> shape;    // innermost (contiguous) dimension first, as the file has it
    std::span<const uint8_t> data;  // from its offset on; size_bytes long for the types that gguf_tensor_bytes knows
};

// ggml's name of a tensor type ("Q8_0", "type 99").
std::string ggml_type_name(uint32_t type);
inline constexpr uint32_t kGgmlF32 = 0;
inline constexpr uint32_t kGgmlQ80 = 8;

// The types of weights that engines know, by ggml's number and back; nullopt for others (W16 and Q4S are not ggml's).
std::optional<compute::WeightType> weight_type_of(uint32_t ggml_type);
std::optional<uint32_t> ggml_type_of(compute::WeightType type);

class Gguf {
  public:
    // `what` names the file in errors. Borrows `bytes` for its whole life.
    static Result<Gguf> parse(std::string what, std::span<const uint8_t> bytes);

    const std::string& what() const { return what_; }
    const std::map<std::string_view, GgufValue>& metadata() const { return metadata_; }
    const std::map<std::string_view, GgufTensor>& tensors() const { return tensors_; }
    const GgufTensor* tensor(std::string_view name) const;  // null when absent

    bool has(std::string_view key) const { return metadata_.contains(key); }
    // The value, as any integer type that holds it and is not negative; kNotFound names the key, kMismatch its type.
    Result<uint64_t> integer(std::string_view key) const;
    Result<double> number(std::string_view key) const;  // F32 or F64
    Result<bool> boolean(std::string_view key) const;
    Result<std::string_view> string(std::string_view key) const;
    Result<std::span<const std::string_view>> strings(std::string_view key) const;
    Result<std::vector<int32_t>> i32s(std::string_view key) const;  // an array of I32 or U32 below 2^31
    // As above; nullopt when the key is absent.
    Result<std::optional<uint64_t>> maybe_integer(std::string_view key) const;

    FileErrors errors() const { return {"model.gguf", what_}; }
    Error failure(ErrorCode code, const std::string& problem) const { return errors()(code, problem); }

  private:
    friend class GgufParser;
    Result<const GgufValue*> find(std::string_view key) const;

    std::string what_;
    std::map<std::string_view, GgufValue> metadata_;
    std::map<std::string_view, GgufTensor> tensors_;
};

}  // namespace driftwood::model
