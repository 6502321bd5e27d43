#include <array>

#include "file/section.h"

namespace driftwood::file {
namespace {

struct DTypeRow {
    DType dtype;
    std::string_view name;
    size_t size_bytes;
};

constexpr std::array<DTypeRow, 12> kDTypes = {{{DType::kU8, "U8", 1},
                                               {DType::kI8, "I8", 1},
                                               {DType::kI16, "I16", 2},
                                               {DType::kU16, "U16", 2},
                                               {DType::kI32, "I32", 4},
                                               {DType::kU32, "U32", 4},
                                               {DType::kI64, "I64", 8},
                                               {DType::kU64, "U64", 8},
                                               {DType::kF16, "F16", 2},
                                               {DType::kBF16, "BF16", 2},
                                               {DType::kF32, "F32", 4},
                                               {DType::kF64, "F64", 8}}};

const DTypeRow& row(DType dtype) {
    const DTypeRow& found = kDTypes.at(static_cast<size_t>(dtype));
    CHECK(found.dtype == dtype);
    return found;
}

}  // namespace

std::string_view dtype_name(DType dtype) { return row(dtype).name; }

size_t dtype_size(DType dtype) { return row(dtype).size_bytes; }

std::optional<DType> dtype_from_name(std::string_view name) {
    for (const DTypeRow& candidate : kDTypes) {
        if (candidate.name == name) return candidate.dtype;
    }
    return std::nullopt;
}

}  // namespace driftwood::file
