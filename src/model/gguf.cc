#include "model/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/utf8.h"

namespace driftwood::model {

static_assert(std::endian::native == std::endian::little, "GGUF's numbers are read in place");

namespace {

constexpr uint32_t kVersion = 3;
constexpr uint32_t kDefaultAlignment = 32;
constexpr std::string_view kAlignmentKey = "general.alignment";

struct TypeFacts {
    std::string_view name;
    uint32_t bytes;  // 0: no fixed size
};
constexpr std::array<TypeFacts, 13> kTypes = {{{"U8", 1},
                                               {"I8", 1},
                                               {"U16", 2},
                                               {"I16", 2},
                                               {"U32", 4},
                                               {"I32", 4},
                                               {"F32", 4},
                                               {"BOOL", 1},
                                               {"STRING", 0},
                                               {"ARRAY", 0},
                                               {"U64", 8},
                                               {"I64", 8},
                                               {"F64", 8}}};

// ggml's block formats: values and bytes of a block. Types that are not listed have been removed or are not known here.
struct TensorFacts {
    uint32_t type;
    std::string_view name;
    uint32_t values;
    uint32_t bytes;
};
constexpr TensorFacts kTensorTypes[] = {
    {0, "F32", 1, 4},       {1, "F16", 1, 2},       {2, "Q4_0", 32, 18},    {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},    {8, "Q8_0", 32, 34},    {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},  {11, "Q3_K", 256, 110}, {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210}, {15, "Q8_K", 256, 292}, {20, "IQ4_NL", 32, 18}, {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},       {25, "I16", 1, 2},      {26, "I32", 1, 4},      {27, "I64", 1, 8},
    {28, "F64", 1, 8},      {30, "BF16", 1, 2},
};

const TensorFacts* tensor_facts(uint32_t type) {
    const auto* found = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes),
                                     [&](const TensorFacts& facts) { return facts.type == type; });
    return found == std::end(kTensorTypes) ? nullptr : found;
}

template <class T>
T load(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// Names go into messages: what is not printable is shown as '?', and long ones are cut.
std::string shown(std::string_view name) {
    std::string out(name.substr(0, 80));
    for (char& c : out) {
        if (c < 0x20 || c == 0x7F || static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    return "'" + out + (name.size() > 80 ? "…'" : "'");
}

}  // namespace

std::string_view gguf_type_name(GgufType type) { return kTypes[static_cast<size_t>(type)].name; }

std::string ggml_type_name(uint32_t type) {
    const TensorFacts* facts = tensor_facts(type);
    return facts != nullptr ? std::string(facts->name) : "type " + std::to_string(type);
}

namespace {

struct WeightNumber {
    compute::WeightType type;
    uint32_t number;
};
using compute::WeightType;
constexpr WeightNumber kWeightNumbers[] = {
    {WeightType::kF32, 0},   {WeightType::kF16, 1},   {WeightType::kQ4_0, 2},  {WeightType::kQ4_1, 3},
    {WeightType::kQ5_0, 6},  {WeightType::kQ5_1, 7},  {WeightType::kQ8_0, 8},  {WeightType::kQ4_K, 12},
    {WeightType::kQ5_K, 13}, {WeightType::kQ6_K, 14}, {WeightType::kBF16, 30},
};

}  // namespace

std::optional<compute::WeightType> weight_type_of(uint32_t ggml_type) {
    for (const WeightNumber& entry : kWeightNumbers) {
        if (entry.number == ggml_type) return entry.type;
    }
    return std::nullopt;
}

std::optional<uint32_t> ggml_type_of(compute::WeightType type) {
    for (const WeightNumber& entry : kWeightNumbers) {
        if (entry.type == type) return entry.number;
    }
    return std::nullopt;
}

// Walks the file once, front to back.
class GgufParser {
  public:
    GgufParser(std::string what, std::span<const uint8_t> bytes) : bytes_(bytes) { out_.what_ = std::move(what); }

    Result<Gguf> run() {
        DW_TRY(header());
        for (uint64_t i = 0; i < pairs_; ++i) DW_TRY(pair());
        DW_TRY(alignment());
        for (uint64_t i = 0; i < tensor_count_; ++i) DW_TRY(tensor());
        DW_TRY(place_tensors());
        return std::move(out_);
    }

  private:
    Error corrupt(const std::string& problem) const { return out_.failure(ErrorCode::kCorrupt, problem); }

    Error limit(const std::string& thing, uint64_t got, uint64_t max) const {
        return out_.failure(ErrorCode::kLimit,
                            thing + ": " + std::to_string(got) + ", at most " + std::to_string(max) + " are allowed");
    }

    Result<std::span<const uint8_t>> take(uint64_t length, const char* thing) {
        const uint64_t left = bytes_.size() - position_;
        if (length > left) {
            return corrupt(std::string(thing) + " at byte " + std::to_string(position_) + ": want " +
                           std::to_string(length) + " bytes, file has " + std::to_string(left));
        }
        const auto taken = bytes_.subspan(position_, length);
        position_ += length;
        return taken;
    }

    template <class T>
    Result<T> scalar(const char* thing) {
        DW_ASSIGN(const auto raw, take(sizeof(T), thing));
        return load<T>(raw.data());
    }

    Result<std::string_view> string(const char* thing, uint64_t max_bytes) {
        DW_ASSIGN(const uint64_t length, scalar<uint64_t>(thing));
        if (length > max_bytes) return limit(std::string(thing) + " length in bytes", length, max_bytes);
        DW_ASSIGN(const auto raw, take(length, thing));
        return std::string_view(reinterpret_cast<const char*>(raw.data()), raw.size());
    }

    Result<GgufType> type(std::string_view key) {
        DW_ASSIGN(const uint32_t number, scalar<uint32_t>("value type"));
        if (number >= kTypes.size()) return corrupt("key " + shown(key) + ": value type " + std::to_string(number));
        return static_cast<GgufType>(number);
    }

    Result<void> header() {
        DW_ASSIGN(const auto magic, take(4, "magic"));
        if (std::memcmp(magic.data(), "GGUF", 4) != 0) return corrupt("does not begin with 'GGUF'");
        DW_ASSIGN(const uint32_t version, scalar<uint32_t>("version"));
        if (version != kVersion) {
            return out_.failure(ErrorCode::kUnsupported,
                                "GGUF version " + std::to_string(version) + ", version 3 is read");
        }
        DW_ASSIGN(tensor_count_, scalar<uint64_t>("tensor count"));
        DW_ASSIGN(pairs_, scalar<uint64_t>("metadata count"));
        if (tensor_count_ > kMaxGgufTensors) return limit("tensors", tensor_count_, kMaxGgufTensors);
        if (pairs_ > kMaxGgufPairs) return limit("metadata entries", pairs_, kMaxGgufPairs);
        return {};
    }

    Result<void> pair() {
        DW_ASSIGN(const std::string_view key, string("metadata key", kMaxGgufKeyBytes));
        if (key.empty() || !is_utf8(key)) return corrupt("a metadata key is empty or not UTF-8");
        DW_ASSIGN(const GgufType value_type, type(key));
        GgufValue value;
        value.type = value_type;
        if (value_type == GgufType::kArray) {
            DW_TRY(array(key, value));
        } else if (value_type == GgufType::kString) {
            DW_ASSIGN(const std::string_view text, string("metadata string", kMaxGgufStringBytes));
            value.strings.push_back(text);
        } else {
            DW_ASSIGN(value.bytes, take(kTypes[static_cast<size_t>(value_type)].bytes, "metadata value"));
            DW_TRY(check_bools(key, value_type, value.bytes));
        }
        if (!out_.metadata_.emplace(key, std::move(value)).second) return corrupt("key " + shown(key) + " comes twice");
        return {};
    }

    Result<void> array(std::string_view key, GgufValue& value) {
        DW_ASSIGN(value.element, type(key));
        DW_ASSIGN(value.count, scalar<uint64_t>("array length"));
        if (value.element == GgufType::kArray) {
            return out_.failure(ErrorCode::kUnsupported, "key " + shown(key) + ": an array of arrays");
        }
        if (value.count > kMaxGgufArrayLength)
            return limit("elements of " + shown(key), value.count, kMaxGgufArrayLength);
        if (value.element == GgufType::kString) {
            // Every string takes at least its length: a count beyond that is refused before memory is taken for it.
            if (value.count > (bytes_.size() - position_) / sizeof(uint64_t)) {
                return corrupt("key " + shown(key) + ": more strings than the file has room for");
            }
            value.strings.reserve(value.count);
            for (uint64_t i = 0; i < value.count; ++i) {
                DW_ASSIGN(const std::string_view text, string("array string", kMaxGgufStringBytes));
                value.strings.push_back(text);
            }
            return {};
        }
        DW_ASSIGN(value.bytes, take(value.count * kTypes[static_cast<size_t>(value.element)].bytes, "array"));
        return check_bools(key, value.element, value.bytes);
    }

    Result<void> check_bools(std::string_view key, GgufType value_type, std::span<const uint8_t> raw) {
        if (value_type != GgufType::kBool) return {};
        for (const uint8_t byte : raw) {
            if (byte > 1) return corrupt("key " + shown(key) + ": a BOOL of " + std::to_string(byte));
        }
        return {};
    }

    Result<void> alignment() {
        if (!out_.has(kAlignmentKey)) return {};
        DW_ASSIGN(alignment_, out_.integer(kAlignmentKey));
        if (alignment_ < 8 || alignment_ > kMaxGgufAlignment || !std::has_single_bit(alignment_)) {
            return corrupt("general.alignment " + std::to_string(alignment_) + ": want a power of two from 8 to " +
                           std::to_string(kMaxGgufAlignment));
        }
        return {};
    }

    Result<void> tensor() {
        GgufTensor tensor;
        DW_ASSIGN(tensor.name, string("tensor name", kMaxGgufNameBytes));
        if (tensor.name.empty() || !is_utf8(tensor.name)) return corrupt("a tensor's name is empty or not UTF-8");
        DW_ASSIGN(const uint32_t dimensions, scalar<uint32_t>("tensor dimensions"));
        if (dimensions < 1 || dimensions > kMaxGgufDimensions) {
            return corrupt("tensor " + shown(tensor.name) + ": " + std::to_string(dimensions) +
                           " dimensions, want 1 to 4");
        }
        for (uint32_t i = 0; i < dimensions; ++i) {
            DW_ASSIGN(const uint64_t extent, scalar<uint64_t>("tensor shape"));
            tensor.shape.push_back(extent);
        }
        DW_ASSIGN(tensor.type, scalar<uint32_t>("tensor type"));
        DW_ASSIGN(const uint64_t offset, scalar<uint64_t>("tensor offset"));
        DW_ASSIGN(const uint64_t size, size_of(tensor));
        if (offset % alignment_ != 0) {
            return corrupt("tensor " + shown(tensor.name) + ": offset " + std::to_string(offset) +
                           " is not a multiple of " + std::to_string(alignment_));
        }
        places_.push_back({offset, size, tensor.name});
        if (!out_.tensors_.emplace(tensor.name, std::move(tensor)).second) {
            return corrupt("tensor " + shown(places_.back().name) + " comes twice");
        }
        return {};
    }

    Result<uint64_t> size_of(const GgufTensor& tensor) {
        const TensorFacts* facts = tensor_facts(tensor.type);
        if (facts == nullptr) {
            return out_.failure(ErrorCode::kUnsupported,
                                "tensor " + shown(tensor.name) + " has " + ggml_type_name(tensor.type));
        }
        if (tensor.shape[0] % facts->values != 0) {
            return corrupt("tensor " + shown(tensor.name) + ": rows of " + std::to_string(tensor.shape[0]) +
                           " values, " + std::string(facts->name) + " wants a multiple of " +
                           std::to_string(facts->values));
        }
        uint64_t size = tensor.shape[0] / facts->values;
        bool overflow = __builtin_mul_overflow(size, uint64_t{facts->bytes}, &size);
        for (size_t i = 1; i < tensor.shape.size(); ++i) {
            overflow = __builtin_mul_overflow(size, tensor.shape[i], &size) || overflow;
        }
        if (overflow || size == 0) return corrupt("tensor " + shown(tensor.name) + ": its shape is empty or too large");
        return size;
    }

    // The data section begins at the next multiple of the alignment; tensors lie inside it and do not overlap.
    Result<void> place_tensors() {
        if (places_.empty()) return {};
        const uint64_t begin = (position_ + alignment_ - 1) / alignment_ * alignment_;
        const uint64_t available = begin <= bytes_.size() ? bytes_.size() - begin : 0;
        std::sort(places_.begin(), places_.end(), [](const Place& a, const Place& b) { return a.offset < b.offset; });
        uint64_t free_from = 0;
        for (const Place& place : places_) {
            if (place.offset > available || place.size > available - place.offset) {
                return corrupt("tensor " + shown(place.name) + ": want " + std::to_string(place.size) + " bytes at " +
                               std::to_string(place.offset) + ", data has " + std::to_string(available));
            }
            if (place.offset < free_from) return corrupt("tensor " + shown(place.name) + " overlaps another");
            free_from = place.offset + place.size;
            out_.tensors_.find(place.name)->second.data = bytes_.subspan(begin + place.offset, place.size);
        }
        return {};
    }

    struct Place {
        uint64_t offset;
        uint64_t size;
        std::string_view name;
    };

    std::span<const uint8_t> bytes_;
    uint64_t position_ = 0;  // <= bytes_.size()
    uint64_t tensor_count_ = 0;
    uint64_t pairs_ = 0;
    uint64_t alignment_ = kDefaultAlignment;
    std::vector<Place> places_;
    Gguf out_;
};

Result<Gguf> Gguf::parse(std::string what, std::span<const uint8_t> bytes) {
    return GgufParser(std::move(what), bytes).run();
}

const GgufTensor* Gguf::tensor(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

Result<const GgufValue*> Gguf::find(std::string_view key) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) return failure(ErrorCode::kNotFound, "key " + shown(key) + " is missing");
    return &found->second;
}

namespace {

Error wrong_type(const Gguf& file, std::string_view key, const char* want, const GgufValue& value) {
    std::string got(gguf_type_name(value.type));
    if (value.type == GgufType::kArray) got += " of " + std::string(gguf_type_name(value.element));
    return file.failure(ErrorCode::kMismatch, "key " + shown(key) + ": want " + want + ", file has " + got);
}

// nullopt: not an integer, or negative.
std::optional<uint64_t> as_integer(GgufType type, const uint8_t* at) {
    const auto positive = [](int64_t value) {
        return value < 0 ? std::nullopt : std::optional<uint64_t>(static_cast<uint64_t>(value));
    };
    switch (type) {
        case GgufType::kU8: return *at;
        case GgufType::kU16: return load<uint16_t>(at);
        case GgufType::kU32: return load<uint32_t>(at);
        case GgufType::kU64: return load<uint64_t>(at);
        case GgufType::kI8: return positive(load<int8_t>(at));
        case GgufType::kI16: return positive(load<int16_t>(at));
        case GgufType::kI32: return positive(load<int32_t>(at));
        case GgufType::kI64: return positive(load<int64_t>(at));
        default: return std::nullopt;
    }
}

}  // namespace

Result<uint64_t> Gguf::integer(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    const auto number = as_integer(value->type, value->bytes.data());
    if (!number) return wrong_type(*this, key, "an integer that is not negative", *value);
    return *number;
}

Result<std::optional<uint64_t>> Gguf::maybe_integer(std::string_view key) const {
    if (!has(key)) return std::optional<uint64_t>();
    DW_ASSIGN(const uint64_t value, integer(key));
    return std::optional<uint64_t>(value);
}

Result<double> Gguf::number(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    if (value->type == GgufType::kF32) return double{load<float>(value->bytes.data())};
    if (value->type == GgufType::kF64) return load<double>(value->bytes.data());
    return wrong_type(*this, key, "F32 or F64", *value);
}

Result<bool> Gguf::boolean(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    if (value->type != GgufType::kBool) return wrong_type(*this, key, "BOOL", *value);
    return value->bytes[0] != 0;
}

Result<std::string_view> Gguf::string(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    if (value->type != GgufType::kString) return wrong_type(*this, key, "STRING", *value);
    return value->strings[0];
}

Result<std::span<const std::string_view>> Gguf::strings(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    if (value->type != GgufType::kArray || value->element != GgufType::kString) {
        return wrong_type(*this, key, "ARRAY of STRING", *value);
    }
    return std::span<const std::string_view>(value->strings);
}

Result<std::vector<int32_t>> Gguf::i32s(std::string_view key) const {
    DW_ASSIGN(const GgufValue* value, find(key));
    if (value->type != GgufType::kArray || (value->element != GgufType::kI32 && value->element != GgufType::kU32)) {
        return wrong_type(*this, key, "ARRAY of I32", *value);
    }
    std::vector<int32_t> out(value->count);
    if (!out.empty()) std::memcpy(out.data(), value->bytes.data(), value->bytes.size());
    return out;
}

}  // namespace driftwood::model
