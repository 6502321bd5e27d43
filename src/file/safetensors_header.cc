#include "file/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

namespace driftwood::file {
namespace {

struct Entry {
    std::string name;
    std::string dtype;
    std::vector<uint64_t> shape;
    std::vector<uint64_t> offsets;
};

// Takes the parser's events and accepts exactly the grammar of a header: an object of tensors (objects with dtype,
// shape and data_offsets) and at most one __metadata__ (an object of strings). Anything else stops the parser with
// `problem`.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
  public:
    std::map<std::string, std::string> metadata;
    std::vector<Entry> entries;
    std::string problem;

    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a boolean"); }
    bool number_integer(number_integer_t) override { return refuse("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
    bool binary(binary_t&) override { return refuse("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ != Place::kArray) return refuse("a number");
        std::vector<uint64_t>& list = field_ == "shape" ? entries.back().shape : entries.back().offsets;
        if (list.size() == (field_ == "shape" ? kMaxDimensions : 2)) return refuse("too many numbers");
        list.push_back(value);
        return true;
    }

    bool string(string_t& value) override {
        if (place_ == Place::kMetadata) {
            metadata.emplace(name_, std::move(value));
            return true;
        }
        if (place_ != Place::kTensor || field_ != "dtype") return refuse("a string");
        entries.back().dtype = std::move(value);
        return true;
    }

    bool start_object(std::size_t) override {
        if (place_ == Place::kOutside) return enter(Place::kTop);
        if (place_ != Place::kTop) return refuse("an object");
        if (name_ == kMetadataKey) return enter(Place::kMetadata);
        entries.push_back({name_, {}, {}, {}});
        fields_.clear();
        return enter(Place::kTensor);
    }

    bool key(string_t& value) override {
        if (place_ == Place::kTensor) {
            field_ = value;
            if (value != "dtype" && value != "shape" && value != "data_offsets") return refuse("an unknown field");
            return fields_.insert(value).second || refuse("a field twice");
        }
        name_ = value;
        if (place_ == Place::kMetadata) return metadata.count(value) == 0 || refuse("a metadata key twice");
        return names_.insert(value).second || refuse("a name twice");
    }

    bool end_object() override {
        if (place_ == Place::kTensor && (fields_.size() != 3 || entries.back().offsets.size() != 2)) {
            return refuse("a tensor without dtype, shape or two data_offsets");
        }
        return enter(place_ == Place::kTop ? Place::kOutside : Place::kTop);
    }

    bool start_array(std::size_t) override {
        if (place_ != Place::kTensor || field_ == "dtype") return refuse("an array");
        return enter(Place::kArray);
    }

    bool end_array() override { return enter(Place::kTensor); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
        problem = "no JSON at byte " + std::to_string(position);
        return false;
    }

  private:
    enum class Place { kOutside, kTop, kMetadata, kTensor, kArray };

    bool enter(Place place) {
        place_ = place;
        return true;
    }
    bool refuse(const char* what) {
        problem = std::string(what) + " where none belongs, near \"" + name_.substr(0, 80) + "\"";
        return false;
    }

    Place place_ = Place::kOutside;
    std::string name_;   // the last tensor name or metadata key
    std::string field_;  // the last key inside a tensor
    std::set<std::string> names_;
    std::set<std::string> fields_;
};

Error header_error(const std::string& path, const std::string& problem) {
    return error(ErrorCode::kCorrupt, "[file.open] " + path + ": header: " + problem);
}

Error tensor_error(const std::string& path, const std::string& name, const std::string& problem) {
    return error(ErrorCode::kCorrupt, "[file.open] " + path + ": tensor " + name + ": " + problem);
}

// Every byte of the data section belongs to exactly one tensor.
Result<void> check_contiguous(const std::string& path, const std::vector<Entry>& entries, uint64_t data_bytes) {
    std::vector<const Entry*> order;
    order.reserve(entries.size());
    for (const Entry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) { return a->offsets < b->offsets; });
    uint64_t at = 0;
    for (const Entry* entry : order) {
        if (entry->offsets[0] != at) {
            return tensor_error(path, entry->name,
                                "starts at " + std::to_string(entry->offsets[0]) + ", want " + std::to_string(at));
        }
        at = entry->offsets[1];
    }
    if (at != data_bytes) {
        return header_error(
            path, "tensors want " + std::to_string(at) + " bytes of data, the file has " + std::to_string(data_bytes));
    }
    return {};
}

// A JSON string, or nothing when `text` is not UTF-8.
std::optional<std::string> quoted(const std::string& text) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::type_error&) {
        return std::nullopt;
    }
}

}  // namespace

std::optional<uint64_t> tensor_bytes(DType dtype, const std::vector<uint64_t>& shape) {
    uint64_t bytes = dtype_size(dtype);
    for (const uint64_t dimension : shape) {
        if (__builtin_mul_overflow(bytes, dimension, &bytes)) return std::nullopt;
    }
    return bytes;
}

Result<std::string> header_text(const std::map<std::string, std::string>& metadata,
                                const std::vector<std::pair<std::string, TensorInfo>>& tensors) {
    const auto not_utf8 = [](const std::string& what) {
        return error(ErrorCode::kInvalidArgument, "[file.commit] " + what + " is not UTF-8");
    };
    std::string text = "{\"" + std::string(kMetadataKey) + "\":{";
    for (const auto& [key, value] : metadata) {
        const auto quoted_key = quoted(key);
        const auto quoted_value = quoted(value);
        if (!quoted_key) return not_utf8("a metadata key");
        if (!quoted_value) return not_utf8("metadata " + key);
        if (text.back() != '{') text += ',';
        text += *quoted_key + ':' + *quoted_value;
    }
    text += '}';
    for (const auto& [name, info] : tensors) {
        const auto quoted_name = quoted(name);
        if (!quoted_name) return not_utf8("a tensor name");
        std::string shape;
        for (const uint64_t dimension : info.shape) shape += (shape.empty() ? "" : ",") + std::to_string(dimension);
        text += ',' + *quoted_name + ":{\"dtype\":\"" + std::string(dtype_name(info.dtype)) + "\",\"shape\":[" + shape +
                "],\"data_offsets\":[" + std::to_string(info.file_offset) + ',' +
                std::to_string(info.file_offset + info.size_bytes) + "]}";
    }
    text += '}';
    const uint64_t end = kHeaderLengthBytes + text.size();
    text.append((kSectionAlign - end % kSectionAlign) % kSectionAlign, ' ');
    if (text.size() > kMaxHeaderBytes) {
        return error(ErrorCode::kLimit, "[file.commit] the header has " + std::to_string(text.size()) +
                                            " bytes, the limit is " + std::to_string(kMaxHeaderBytes));
    }
    return text;
}

std::optional<size_t> find_root_hash(std::string_view text) {
    // A quote inside a JSON string is escaped, so this can only be a key and the beginning of its value.
    const std::string mark = "\"" + std::string(kRootHashKey) + "\":\"";
    const size_t at = text.find(mark);
    if (at == std::string_view::npos || text.find(mark, at + 1) != std::string_view::npos) return std::nullopt;
    if (text.size() - at - mark.size() < kRootHashDigits) return std::nullopt;
    return at + mark.size();
}

std::vector<uint8_t> encode_header(std::string_view text) {
    static_assert(std::endian::native == std::endian::little, "the length is written as the machine lays it out");
    const uint64_t length = text.size();
    std::vector<uint8_t> out(kHeaderLengthBytes + text.size());
    std::memcpy(out.data(), &length, kHeaderLengthBytes);
    std::memcpy(out.data() + kHeaderLengthBytes, text.data(), text.size());
    return out;
}

Hash root_hash(std::span<const uint8_t> encoded_header, std::span<const uint8_t> table) {
    Hasher hasher;
    hasher.update(encoded_header);
    hasher.update(table);
    return hasher.finish();
}

Result<Header> parse_header(const std::string& path, std::string_view text, uint64_t data_start, uint64_t data_bytes) {
    // The parser takes a NUL for the end of its input and skips a byte-order mark: neither belongs here.
    if (text.empty() || text.front() != '{') return header_error(path, "does not begin with {");
    if (text.find('\0') != std::string_view::npos) return header_error(path, "holds a NUL byte");
    HeaderEvents events;
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &events)) return header_error(path, events.problem);
    DW_TRY(check_contiguous(path, events.entries, data_bytes));
    Header header;
    for (Entry& entry : events.entries) {
        const std::optional<DType> dtype = dtype_from_name(entry.dtype);
        if (!dtype) {
            return error(ErrorCode::kUnsupported,
                         "[file.open] " + path + ": tensor " + entry.name + ": unknown dtype " + entry.dtype);
        }
        const std::optional<uint64_t> want = tensor_bytes(*dtype, entry.shape);
        const uint64_t size = entry.offsets[1] - entry.offsets[0];
        if (!want || entry.offsets[1] < entry.offsets[0] || *want != size) {
            return tensor_error(path, entry.name,
                                "its shape wants " + (want ? std::to_string(*want) : "more than 2^64") +
                                    " bytes, its offsets are " + std::to_string(entry.offsets[0]) + " to " +
                                    std::to_string(entry.offsets[1]));
        }
        header.tensors.emplace(std::move(entry.name),
                               TensorInfo{*dtype, std::move(entry.shape), data_start + entry.offsets[0], size});
    }
    header.metadata = std::move(events.metadata);
    return header;
}

}  // namespace driftwood::file
