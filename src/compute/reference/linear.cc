// Rule 3: linear layers. One template for types whose groups of 32 have a float scale each, one for super-blocks with
// integer scales, one for W16; each for 8-bit and 16-bit activations.
//
// Every sum over values is an integer sum inside the bounds that stand beside it, so its order is free. Only the float
// operations that are written out round, and their order is the contract's.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "compute/math.h"
#include "compute/reference/reference.h"
#include "compute/reference/unpack.h"

namespace driftwood::compute::reference {

namespace {

// One row of activations from its value `begin` on.
template <ActivationKind kKind>
class Input {
  public:
    Input(const Linear& args, uint32_t token) {
        constexpr uint32_t kScaleGroup = kKind == ActivationKind::kA32P ? kGroup : kSuperBlock;
        const size_t at = size_t{token} * args.cols;
        high_ = args.x.high + at;
        if constexpr (kKind == ActivationKind::kA16) low_ = args.x.low + at;
        scale_ = args.x.scale + size_t{token} * ((args.cols + kScaleGroup - 1) / kScaleGroup);
    }
    int32_t high(size_t i) const { return high_[i]; }
    int32_t low(size_t i) const { return low_[i]; }
    // The number whose digits they are.
    int32_t value(size_t i) const {
        if constexpr (kKind == ActivationKind::kA16) return 256 * high_[i] + low_[i];
        return high_[i];
    }
    float scale(size_t group) const { return scale_[group]; }

  private:
    const int8_t* high_;
    const int8_t* low_ = nullptr;
    const float* scale_;
};

template <class Block>
Block block_at(const uint8_t* row, size_t index) {
    Block block;
    std::memcpy(&block, row + index * sizeof(Block), sizeof(Block));
    return block;
}

template <class Block>
constexpr bool kHasMin = false;
template <>
inline constexpr bool kHasMin<BlockQ4_1> = true;
template <>
inline constexpr bool kHasMin<BlockQ5_1> = true;
template <>
inline constexpr bool kHasMin<BlockQ4_K> = true;
template <>
inline constexpr bool kHasMin<BlockQ5_K> = true;

// ---- groups of 32 with a float scale each: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1

// t of one super-block, of which `groups` groups are there.
template <class Block, ActivationKind kKind>
float group_block(const uint8_t* row, size_t first_group, size_t groups, const Input<kKind>& x) {
    static_assert(32 * 128 * kMaxA16 < 1 << 30, "I is exact in int32 for every |n| <= 128");
    float t = 0.0F;
    for (size_t j = first_group; j < first_group + groups; ++j) {
        const Group group = unpack(block_at<Block>(row, j));
        int32_t product = 0;  // I
        int32_t sum = 0;      // S
        for (size_t i = 0; i < kGroup; ++i) {
            product += group.n[i] * x.value(j * kGroup + i);
            sum += x.value(j * kGroup + i);
        }
        float f = static_cast<float>(product);
        if constexpr (kKind == ActivationKind::kA32P) f = f * x.scale(j);
        t = std::fma(group.d, f, t);
        if constexpr (kHasMin<Block>) t = std::fma(group.m, static_cast<float>(sum), t);
    }
    return t;
}

template <class Block, ActivationKind kKind>
struct Groups {
    static float row(const uint8_t* weights, uint32_t cols, const Input<kKind>& x) {
        const size_t groups = cols / kGroup;
        float acc = 0.0F;
        for (size_t begin = 0; begin < groups; begin += kGroupsPerSuperBlock) {
            const size_t count = std::min<size_t>(kGroupsPerSuperBlock, groups - begin);
            const float t = group_block<Block, kKind>(weights, begin, count, x);
            if constexpr (kKind == ActivationKind::kA32P) {
                acc = acc + t;  // the activations' scales are in t
            } else {
                acc = std::fma(t, x.scale(begin / kGroupsPerSuperBlock), acc);
            }
        }
        return acc;
    }
};

// ---- super-blocks of 256 with integer scales: Q4_K, Q5_K, Q6_K, Q4S

template <class Block, ActivationKind kKind>
float super_block(const SuperBlock& block, size_t begin, const Input<kKind>& x) {
    // |scale · n| is at most 63 · 31 (Q5_K), 128 · 32 (Q6_K), 15 · 8 (Q4S); a digit is at most 128.
    static_assert(int64_t{256} * 128 * 32 * 128 < 1 << 30, "A is exact in int32");
    static_assert(int64_t{256} * 63 * kMaxA16 < 1 << 30, "B is exact in int32");
    int32_t high = 0;  // A, or the part of it that the high digits make
    int32_t low = 0;
    for (size_t i = 0; i < kSuperBlock; ++i) {
        const int32_t weight = block.scale[i / 16] * block.n[i];
        high += weight * x.high(begin + i);
        if constexpr (kKind == ActivationKind::kA16) low += weight * x.low(begin + i);
    }
    float f = static_cast<float>(high);
    if constexpr (kKind == ActivationKind::kA16) f = std::fma(256.0F, f, static_cast<float>(low));
    if constexpr (!kHasMin<Block>) return block.d * f;
    int32_t minima = 0;  // B
    for (size_t i = 0; i < kSuperBlock; ++i) minima += block.min[i / kGroup] * x.value(begin + i);
    return std::fma(block.d, f, -(block.dmin * static_cast<float>(minima)));
}

template <class Block, ActivationKind kKind>
struct SuperBlocks {
    static float row(const uint8_t* weights, uint32_t cols, const Input<kKind>& x) {
        float acc = 0.0F;
        for (size_t b = 0; b < cols / kSuperBlock; ++b) {
            const SuperBlock block = unpack(block_at<Block>(weights, b));
            acc = std::fma(super_block<Block, kKind>(block, b * kSuperBlock, x), x.scale(b), acc);
        }
        return acc;
    }
};

// ---- W16

struct W16Row {
    static float row(const uint8_t* weights, uint32_t cols, const Input<ActivationKind::kA16>& x) {
        static_assert(int64_t{256} * kMaxA16 * 128 < 1 << 30, "both sums are exact in int32");
        float acc = 0.0F;
        for (size_t b = 0; b * kSuperBlock < cols; ++b) {
            const size_t count = std::min<size_t>(kSuperBlock, cols - b * kSuperBlock);
            BlockW16 block;
            std::memcpy(&block, weights + b * sizeof(block), sizeof(float) + count * sizeof(int16_t));
            int32_t high = 0;
            int32_t low = 0;
            for (size_t i = 0; i < count; ++i) {
                high += block.n[i] * x.high(b * kSuperBlock + i);
                low += block.n[i] * x.low(b * kSuperBlock + i);
            }
            const float t = block.scale * std::fma(256.0F, static_cast<float>(high), static_cast<float>(low));
            acc = std::fma(t, x.scale(b), acc);
        }
        return acc;
    }
};

template <class Row, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    for (uint32_t t = 0; t < args.tokens; ++t) {
        const Input<kKind> x(args, t);
        for (uint32_t r = row_begin; r < row_end; ++r) {
            args.y[size_t{t} * args.y_stride + r] = Row::row(args.weights + r * args.row_bytes, args.cols, x);
        }
    }
}

template <template <class, ActivationKind> class Row, class Block, ActivationKind kKind>
constexpr LinearKernel kLinear = linear<Row<Block, kKind>, kKind>;

}  // namespace

LinearKernel linear_kernel(WeightType type, ActivationKind kind) {
    constexpr auto kA32P = ActivationKind::kA32P;
    constexpr auto kA256 = ActivationKind::kA256;
    constexpr auto kA16 = ActivationKind::kA16;
    const bool wide = kind == kA16;
    switch (type) {
        case WeightType::kQ8_0:
            if (kind == kA256) return nullptr;
            return wide ? kLinear<Groups, BlockQ8_0, kA16> : kLinear<Groups, BlockQ8_0, kA32P>;
        case WeightType::kW16: return wide ? linear<W16Row, kA16> : nullptr;
        default: break;
    }
    if (kind == kA32P) return nullptr;
    switch (type) {
        case WeightType::kQ4_0: return wide ? kLinear<Groups, BlockQ4_0, kA16> : kLinear<Groups, BlockQ4_0, kA256>;
        case WeightType::kQ4_1: return wide ? kLinear<Groups, BlockQ4_1, kA16> : kLinear<Groups, BlockQ4_1, kA256>;
        case WeightType::kQ5_0: return wide ? kLinear<Groups, BlockQ5_0, kA16> : kLinear<Groups, BlockQ5_0, kA256>;
        case WeightType::kQ5_1: return wide ? kLinear<Groups, BlockQ5_1, kA16> : kLinear<Groups, BlockQ5_1, kA256>;
        case WeightType::kQ4_K:
            return wide ? kLinear<SuperBlocks, BlockQ4_K, kA16> : kLinear<SuperBlocks, BlockQ4_K, kA256>;
        case WeightType::kQ5_K:
            return wide ? kLinear<SuperBlocks, BlockQ5_K, kA16> : kLinear<SuperBlocks, BlockQ5_K, kA256>;
        case WeightType::kQ6_K:
            return wide ? kLinear<SuperBlocks, BlockQ6_K, kA16> : kLinear<SuperBlocks, BlockQ6_K, kA256>;
        case WeightType::kQ4S:
            return wide ? kLinear<SuperBlocks, BlockQ4S, kA16> : kLinear<SuperBlocks, BlockQ4S, kA256>;
        default: return nullptr;
    }
}

}  // namespace driftwood::compute::reference
