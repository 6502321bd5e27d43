// Numbers that are hard for kernels, for tests and bench/isa_check: activations and weights at the ends of their
// ranges.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "compute/constants.h"
#include "compute/kernels.h"
#include "compute/test_spec.h"
#include "compute/weights.h"

namespace driftwood::compute {

// ---- adversarial floats: what activations can hold, and some that they should not

inline constexpr uint32_t kStyles = 8;

inline float hard_float(TestRandom& random, uint32_t style) {
    switch (style) {
        case 0: return random.uniform();
        case 1:  // huge
            return random.uniform() * 3e38F;
        case 2:  // around the limit below which a group counts as zero
            return random.uniform() * 0x1p-59F;
        case 3:  // subnormal
            return random.uniform() * 0x1p-127F;
        case 4:  // ties: multiples of a half up to 63.5, exactly representable after any power of two
            return static_cast<float>(static_cast<int32_t>(random.below(255)) - 127) * 0.5F;
        case 5:  // just below a power of two, where rounding wants to exceed 127
            return std::nextafter(2.0F, 0.0F) * (random.below(2) == 0 ? 1.0F : -1.0F);
        case 6:  // zeros of both signs, and a few ones
            return random.below(4) == 0 ? 1.0F : (random.below(2) == 0 ? 0.0F : -0.0F);
        default:  // any finite bits
            for (;;) {
                const float x = std::bit_cast<float>(static_cast<uint32_t>(random.bits()));
                if (std::isfinite(x)) return x;
            }
    }
}

// Style kStyles changes its style every 32 values.
inline std::vector<float> hard_floats(TestRandom& random, uint32_t count, uint32_t style) {
    std::vector<float> values(count);
    uint32_t current = style;
    for (uint32_t i = 0; i < count; ++i) {
        if (style == kStyles && i % 32 == 0) current = random.below(kStyles);
        values[i] = hard_float(random, current);
    }
    return values;
}

inline constexpr ActivationKind kKinds[] = {ActivationKind::kA32P, ActivationKind::kA256, ActivationKind::kA16};
inline constexpr const char* kKindNames[] = {"A32P", "A256", "A16"};

// Rows of activations as a kernel writes them.
struct Quantised {
    ActivationKind kind;
    std::vector<int8_t> high, low;
    std::vector<float> scale;
    std::vector<int32_t> high_sum, low_sum;
    bool finite = true;

    Quantised(const Kernels& kernels, ActivationKind of, const std::vector<float>& x, uint32_t cols) : kind(of) {
        const uint32_t group = kind == ActivationKind::kA32P ? kGroup : kSuperBlock;
        const size_t groups = (cols + group - 1) / group;
        const size_t rows = x.size() / cols;
        high.assign(x.size(), 1);
        low.assign(x.size(), 1);
        scale.assign(rows * groups, -1.0F);
        high_sum.assign(x.size() / kSumGroup, -1);
        low_sum.assign(x.size() / kSumGroup, -1);
        for (size_t r = 0; r < rows; ++r) {
            const size_t at = r * cols;
            finite &= kernels.quantise[static_cast<uint32_t>(kind)](
                &x[at], cols,
                {&high[at], &low[at], &scale[r * groups], &high_sum[at / kSumGroup], &low_sum[at / kSumGroup]});
        }
    }
    Activations view() const { return {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()}; }
};

// ---- linear layers

struct LayerPair {
    WeightType type;
    ActivationKind kind;
};

// Every kind of linear layer.
inline std::vector<LayerPair> layer_pairs() {
    std::vector<LayerPair> all;
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        if (is_plain_float(type)) continue;
        const ActivationKind narrow = activation_kind(type, ActivationBits::k8);
        all.push_back({type, ActivationKind::kA16});
        if (narrow != ActivationKind::kA16) all.push_back({type, narrow});
    }
    return all;
}

// Any finite f16, subnormal ones and both zeros among them.
inline uint16_t any_finite_half(TestRandom& random) {
    for (;;) {
        const auto half = static_cast<uint16_t>(random.bits());
        if ((half & 0x7C00) != 0x7C00) return half;
    }
}

enum class Extreme : uint8_t { kAnyScales, kSubnormalScales, kLargestIntegers, kCount };

// A matrix of hostile blocks: whatever check_weights lets pass.
inline std::vector<uint8_t> extreme_matrix(TestRandom& random, WeightType type, uint32_t rows, uint32_t cols,
                                           Extreme extreme) {
    std::vector<uint8_t> weights = test_matrix(random, type, rows, cols);
    const size_t row_size = row_bytes(type, cols);
    const size_t block_bytes = kWeightFormats[static_cast<size_t>(type)].bytes;
    for (size_t at = 0; at < weights.size();) {
        const size_t left = row_size - at % row_size;
        const size_t size = std::min(block_bytes, left);
        uint8_t* block = &weights[at];
        at += size;
        if (type == WeightType::kW16) {
            const float scale = std::ldexp(1.0F, extreme == Extreme::kSubnormalScales
                                                     ? kMinW16Exponent
                                                     : static_cast<int>(random.below(112)) + kMinW16Exponent);
            std::memcpy(block, &scale, sizeof(scale));
            for (size_t i = 4; extreme == Extreme::kLargestIntegers && i < size; i += 2) {
                const auto n = static_cast<int16_t>(random.below(8) == 0 ? -kMaxA16 : kMaxA16);
                std::memcpy(block + i, &n, sizeof(n));
            }
            continue;
        }
        // All bits of all integers set, or only the top bit of each byte: sums reach their bounds on either side.
        const uint8_t fill = random.below(2) == 0 ? 0xFF : random.below(2) == 0 ? 0x80 : 0x00;
        for (size_t i = 0; extreme == Extreme::kLargestIntegers && i < size; ++i) block[i] = fill;
        for (size_t i = 0; i < (has_min(type) ? 2U : 1U); ++i) {
            uint16_t half = any_finite_half(random);
            if (extreme == Extreme::kSubnormalScales) half &= 0x83FF;
            std::memcpy(block + (type == WeightType::kQ6_K ? offsetof(BlockQ6_K, d) : 2 * i), &half, sizeof(half));
        }
    }
    return weights;
}

}  // namespace driftwood::compute
