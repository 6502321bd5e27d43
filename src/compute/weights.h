// Weight matrices: views of their bytes (formats.h), what a file's bytes must satisfy, and the copy in W16 that
// stands for weights in F32, F16 and BF16.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "compute/formats.h"

namespace driftwood::compute {

std::string_view weight_type_name(WeightType type);

// The bits of the activations that linear layers multiply, for weight types that leave a choice: part of a model's
// identity, since it changes what is computed.
enum class ActivationBits : uint8_t { k8, k16 };
uint32_t bits_of(ActivationBits bits);  // 8 or 16

// F32, F16 and BF16: their matrices become W16 before they multiply anything.
bool is_plain_float(WeightType type);

// What quantises the input of a linear layer with weights of this type. CHECKs that there is such a layer, so not for
// plain floats.
ActivationKind activation_kind(WeightType type, ActivationBits bits);

// A [rows, cols] matrix, row-major, y = W x with x of `cols` values.
struct MatrixView {
    WeightType type = WeightType::kQ8_0;
    uint32_t rows = 0;
    uint32_t cols = 0;
    std::span<const uint8_t> bytes;
};

// Whether rows of `cols` values can be stored in this type and multiplied: multiples of 32, or of 256 where blocks hold
// so many and are never short.
bool cols_fit(WeightType type, uint32_t cols);
// Precondition: cols_fit.
size_t row_bytes(WeightType type, uint32_t cols);

// Whether every scale, minimum and plain float among the bytes is finite (W16: within its range). Integers may be
// anything. kInvalidArgument names the first block that is wrong, without the matrix's name. Precondition: the bytes
// are as many as the shape wants.
Result<void> check_weights(const MatrixView& matrix);

// Rule 2: writes rows * row_bytes(kW16, cols) bytes, which begin at a multiple of 4, from a matrix of plain floats.
// kInvalidArgument for values that are not finite or beyond W16's range (2^75).
Result<void> weights_to_w16(const MatrixView& from, std::span<uint8_t> to);

}  // namespace driftwood::compute
