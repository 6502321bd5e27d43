#include <bit>
#include <set>

#include "cli/demo.h"
#include "file/section.h"

namespace driftwood::cli {
namespace {

std::string_view as_text(std::span<const uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

// Bytes that only one side has count as differing in all their bits.
void Comparison::add(std::string what, std::string_view a, std::string_view b) {
    const size_t common = std::min(a.size(), b.size());
    const size_t longest = std::max(a.size(), b.size());
    Row row{.what = std::move(what), .bits_compared = longest * 8, .bits_differing = (longest - common) * 8};
    for (size_t i = 0; i < common; ++i)
        row.bits_differing += static_cast<uint64_t>(std::popcount(static_cast<uint8_t>(a[i] ^ b[i])));
    bits_compared += row.bits_compared;
    bits_differing += row.bits_differing;
    rows.push_back(std::move(row));
}

Result<Comparison> compare_images(const std::string& path_a, const std::string& path_b) {
    using file::SectionReader;
    DW_ASSIGN(const auto a, SectionReader::open(path_a, SectionReader::Hashes::kRequired));
    DW_ASSIGN(const auto b, SectionReader::open(path_b, SectionReader::Hashes::kRequired));
    DW_TRY(a.verify_all());
    DW_TRY(b.verify_all());

    Comparison comparison;
    std::set<std::string> names;
    for (const auto& [name, tensor] : a.tensors()) names.insert(name);
    for (const auto& [name, tensor] : b.tensors()) names.insert(name);
    for (const std::string& name : names) {
        const file::TensorInfo* const in_a = a.find(name);
        const file::TensorInfo* const in_b = b.find(name);
        comparison.add(name, in_a != nullptr ? as_text(a.bytes(*in_a)) : "",
                       in_b != nullptr ? as_text(b.bytes(*in_b)) : "");
    }
    const std::set<std::string> may_differ = {"created", "parent_image", "root_hash"};
    const auto metadata_text = [&](const SectionReader& image) {
        std::string text;
        for (const auto& [key, value] : image.metadata()) {
            if (!may_differ.contains(key)) text.append(key).append("=").append(value).append("\n");
        }
        return text;
    };
    comparison.add("metadata", metadata_text(a), metadata_text(b));
    return comparison;
}

}  // namespace driftwood::cli
