// Rule 9: a row of the embedding as floats, for every type of weights. Each value has one rounding at most; except for
// tiny numbers of F32 and BF16 it is the value that ggml's dequantisation gives.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "compute/half.h"
#include "compute/reference/reference.h"
#include "compute/reference/unpack.h"

namespace driftwood::compute::reference {

namespace {

template <class Block>
void embed_groups(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t at = 0; at < n; at += kGroup) {
        Block block;
        std::memcpy(&block, row + size_t{at / kGroup} * sizeof(Block), sizeof(Block));
        const Group group = unpack(block);
        constexpr bool kMin = std::is_same_v<Block, BlockQ4_1> || std::is_same_v<Block, BlockQ5_1>;
        for (uint32_t i = 0; i < kGroup; ++i) {
            const auto value = static_cast<float>(group.n[i]);
            out[at + i] = kMin ? std::fma(group.d, value, group.m) : group.d * value;
        }
    }
}

template <class Block>
void embed_super_blocks(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t at = 0; at < n; at += kSuperBlock) {
        Block bytes;
        std::memcpy(&bytes, row + size_t{at / kSuperBlock} * sizeof(Block), sizeof(Block));
        const SuperBlock block = unpack(bytes);
        constexpr bool kMin = std::is_same_v<Block, BlockQ4_K> || std::is_same_v<Block, BlockQ5_K>;
        for (uint32_t i = 0; i < kSuperBlock; ++i) {
            const int32_t value = block.scale[i / 16] * block.n[i];
            const int32_t min = block.min[i / kGroup];
            const float scaled_min = block.dmin * static_cast<float>(min);  // exact: 11 and 6 bits
            out[at + i] =
                kMin ? std::fma(block.d, static_cast<float>(value), -scaled_min) : block.d * static_cast<float>(value);
        }
    }
}

void embed_w16(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t at = 0; at < n; at += kSuperBlock) {
        const uint32_t count = std::min(kSuperBlock, n - at);
        BlockW16 block;
        std::memcpy(&block, row + size_t{at / kSuperBlock} * sizeof(block), sizeof(float) + count * sizeof(int16_t));
        for (uint32_t i = 0; i < count; ++i) out[at + i] = block.scale * static_cast<float>(block.n[i]);
    }
}

// Rule 12: what is below 2^-60 is +0, so that the residual stream never holds a subnormal number.
float without_tiny(float x) { return std::fabs(x) < kTiny ? 0.0F : x; }

void embed_f32(const uint8_t* row, uint32_t n, float* out) {
    std::memcpy(out, row, size_t{n} * sizeof(float));
    std::transform(out, out + n, out, without_tiny);
}

template <float (*kWiden)(uint16_t)>
void embed_16_bits(const uint8_t* row, uint32_t n, float* out) {
    for (uint32_t i = 0; i < n; ++i) {
        out[i] = without_tiny(kWiden(static_cast<uint16_t>(row[2 * i] | row[2 * i + 1] << 8)));
    }
}

}  // namespace

EmbedKernel embed_kernel(WeightType type) {
    switch (type) {
        case WeightType::kF32: return embed_f32;
        case WeightType::kF16: return embed_16_bits<half_to_float>;
        case WeightType::kBF16: return embed_16_bits<bf16_to_float>;
        case WeightType::kW16: return embed_w16;
        case WeightType::kQ8_0: return embed_groups<BlockQ8_0>;
        case WeightType::kQ4_0: return embed_groups<BlockQ4_0>;
        case WeightType::kQ4_1: return embed_groups<BlockQ4_1>;
        case WeightType::kQ5_0: return embed_groups<BlockQ5_0>;
        case WeightType::kQ5_1: return embed_groups<BlockQ5_1>;
        case WeightType::kQ4_K: return embed_super_blocks<BlockQ4_K>;
        case WeightType::kQ5_K: return embed_super_blocks<BlockQ5_K>;
        case WeightType::kQ6_K: return embed_super_blocks<BlockQ6_K>;
        case WeightType::kQ4S: return embed_super_blocks<BlockQ4S>;
    }
    return nullptr;
}

}  // namespace driftwood::compute::reference
