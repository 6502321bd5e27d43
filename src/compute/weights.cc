#include "compute/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "compute/constants.h"
#include "compute/half.h"
#include "compute/math.h"

namespace driftwood::compute {

namespace {

const WeightFormat& format_of(WeightType type) { return kWeightFormats[static_cast<size_t>(type)]; }

Error bad(const std::string& what, size_t block) {
    return error(ErrorCode::kInvalidArgument, what + " in block " + std::to_string(block));
}

// Where a block of quantised weights holds its f16 numbers.
struct Halves {
    size_t count;
    std::array<size_t, 2> offset;
};

Halves halves_of(WeightType type) {
    switch (type) {
        case WeightType::kQ4_1:
        case WeightType::kQ5_1:
        case WeightType::kQ4_K:
        case WeightType::kQ5_K: return {2, {0, 2}};
        case WeightType::kQ6_K: return {1, {offsetof(BlockQ6_K, d), 0}};
        default: return {1, {0, 0}};
    }
}

template <class T>
T load(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

float load_float(WeightType type, const uint8_t* row, size_t i) {
    if (type == WeightType::kF32) return load<float>(row + 4 * i);
    const auto bits = load<uint16_t>(row + 2 * i);
    return type == WeightType::kF16 ? half_to_float(bits) : bf16_to_float(bits);
}

Result<void> check_plain_floats(const MatrixView& matrix) {
    const size_t count = size_t{matrix.rows} * matrix.cols;
    for (size_t i = 0; i < count; ++i) {
        if (!is_finite(load_float(matrix.type, matrix.bytes.data(), i))) {
            return error(ErrorCode::kInvalidArgument, "want finite values, got another at index " + std::to_string(i));
        }
    }
    return {};
}

Result<void> check_w16(const MatrixView& matrix) {
    size_t block = 0;
    for (size_t at = 0; at < matrix.bytes.size(); ++block) {
        const size_t in_row = at % row_bytes(WeightType::kW16, matrix.cols);
        const size_t begin = in_row / sizeof(BlockW16) * kSuperBlock;
        const size_t count = std::min<size_t>(kSuperBlock, matrix.cols - begin);
        const auto scale = load<float>(matrix.bytes.data() + at);
        int exponent = 0;
        if (!(std::frexp(scale, &exponent) == 0.5F && exponent - 1 >= kMinW16Exponent &&
              exponent - 1 <= kMaxW16Exponent)) {
            return bad("want a scale of W16, got another", block);
        }
        at += sizeof(float);
        for (size_t i = 0; i < count; ++i, at += sizeof(int16_t)) {
            if (std::abs(int32_t{load<int16_t>(matrix.bytes.data() + at)}) > kMaxA16) {
                return bad("want integers up to 32639, got another", block);
            }
        }
    }
    return {};
}

// One block of rule 2's W16. False when a value is not finite or beyond the range.
bool quantise_block(std::span<const float> x, BlockW16& out) {
    uint32_t most = 0;
    for (const float value : x) most = std::max(most, float_bits(value) & 0x7FFFFFFFU);
    const float am = bits_float(most);
    if (!(am < 0x1p75F)) return false;
    // floor(log2 am) − 14, one more where rounding would pass kMaxA16.
    int32_t e = std::max(static_cast<int32_t>(most >> 23) - 127 - 14, kMinW16Exponent);
    if (round_int(am * power_of_two(-e)) > kMaxA16) ++e;
    if (e > kMaxW16Exponent) return false;
    const float to_integer = power_of_two(-e);
    for (size_t i = 0; i < x.size(); ++i) out.n[i] = static_cast<int16_t>(round_int(x[i] * to_integer));
    out.scale = power_of_two(e);
    return true;
}

}  // namespace

std::string_view weight_type_name(WeightType type) { return format_of(type).name; }

uint32_t bits_of(ActivationBits bits) { return bits == ActivationBits::k16 ? 16 : 8; }

bool is_plain_float(WeightType type) {
    return type == WeightType::kF32 || type == WeightType::kF16 || type == WeightType::kBF16;
}

ActivationKind activation_kind(WeightType type, ActivationBits bits) {
    CHECK(!is_plain_float(type));
    if (bits == ActivationBits::k16 || type == WeightType::kW16) return ActivationKind::kA16;
    return type == WeightType::kQ8_0 ? ActivationKind::kA32P : ActivationKind::kA256;
}

bool cols_fit(WeightType type, uint32_t cols) {
    const bool long_blocks = format_of(type).values == kSuperBlock && type != WeightType::kW16;
    return cols % (long_blocks ? kSuperBlock : kGroup) == 0;
}

size_t row_bytes(WeightType type, uint32_t cols) {
    CHECK(cols_fit(type, cols));
    if (type == WeightType::kW16) {
        return size_t{cols} * sizeof(int16_t) + (size_t{cols} + kSuperBlock - 1) / kSuperBlock * sizeof(float);
    }
    return size_t{cols} / format_of(type).values * format_of(type).bytes;
}

Result<void> check_weights(const MatrixView& matrix) {
    if (is_plain_float(matrix.type)) return check_plain_floats(matrix);
    if (matrix.type == WeightType::kW16) return check_w16(matrix);
    const Halves halves = halves_of(matrix.type);
    const size_t bytes = format_of(matrix.type).bytes;
    for (size_t at = 0; at < matrix.bytes.size(); at += bytes) {
        for (size_t i = 0; i < halves.count; ++i) {
            if (!half_is_finite(load<uint16_t>(matrix.bytes.data() + at + halves.offset[i]))) {
                return bad("want finite scales, got another", at / bytes);
            }
        }
    }
    return {};
}

Result<void> weights_to_w16(const MatrixView& from, std::span<uint8_t> to) {
    CHECK(is_plain_float(from.type) && to.size() == from.rows * row_bytes(WeightType::kW16, from.cols));
    const size_t from_bytes = row_bytes(from.type, from.cols);
    uint8_t* out = to.data();
    for (uint32_t r = 0; r < from.rows; ++r) {
        const uint8_t* row = from.bytes.data() + r * from_bytes;
        for (uint32_t begin = 0; begin < from.cols; begin += kSuperBlock) {
            const uint32_t count = std::min(kSuperBlock, from.cols - begin);
            std::array<float, kSuperBlock> x;
            for (uint32_t i = 0; i < count; ++i) x[i] = load_float(from.type, row, begin + i);
            BlockW16 block;
            if (!quantise_block(std::span(x).first(count), block)) {
                return error(ErrorCode::kInvalidArgument, "want finite values below 2^75, got another in row " +
                                                              std::to_string(r) + " from column " +
                                                              std::to_string(begin) + " on");
            }
            const size_t bytes = sizeof(float) + count * sizeof(int16_t);
            std::memcpy(out, &block, bytes);
            out += bytes;
        }
    }
    return {};
}

}  // namespace driftwood::compute
