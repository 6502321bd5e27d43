// Rules 2 and 4 on the card: activations of all three kinds, and RMSNorm's factor.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// The q of four lanes from this one on, in lanes 0, 4, 8, ….
__device__ inline uint32_t pack_lanes(int32_t q) {
    uint32_t word = static_cast<uint32_t>(q) & 255U;
    word |= __shfl_down_sync(kAllLanes, word, 1) << 8;
    return word | __shfl_down_sync(kAllLanes, word, 2) << 16;
}

// One group of one row, a value per lane; all lanes of the warp take part.
struct Group {
    uint32_t word;  // pack_lanes
    float scale;
    bool finite;
};
__device__ inline Group quantise_group(float x) {
    const uint32_t most = warp_max(magnitude_bits(x));
    const bool zero = most < __float_as_uint(kTiny);
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;
    const int32_t q = min(max(round_int(__fmul_rn(x, power_of_two(-e))), -kMaxA8), kMaxA8);
    return {pack_lanes(zero ? 0 : q), zero ? 0.0F : power_of_two(e), most < kInfinityBits};
}

// One super-block of one row; value j of a lane is of its group j.
template <ActivationKind kKind>
struct SuperBlock {
    uint32_t word[8];
    float scale[kKind == ActivationKind::kA32P ? 8 : 1];
    bool finite;
};
template <ActivationKind kKind>
__device__ SuperBlock<kKind> quantise_super_block(const float (&x)[8]) {
    SuperBlock<kKind> made;
    made.finite = true;
    if constexpr (kKind == ActivationKind::kA32P) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const Group group = quantise_group(x[j]);
            made.word[j] = group.word;
            made.scale[j] = group.scale;
            made.finite &= group.finite;
        }
    } else {
        uint32_t most = 0;
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
        most = warp_max(most);
        const bool zero = most < __float_as_uint(kTiny);
        const float largest = __uint_as_float(most);
        constexpr auto kRange = static_cast<float>(kMaxA8);
        const float to_integer = zero ? 0.0F : __fdiv_rn(kRange, largest);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) made.word[j] = pack_lanes(round_int(__fmul_rn(x[j], to_integer)));
        made.scale[0] = zero ? 0.0F : __fdiv_rn(largest, kRange);
        made.finite = most < kInfinityBits;
    }
    return made;
}

// Of a super-block in 16 bits (A16), from the bits of its largest magnitude.
__device__ inline int32_t exponent_16(uint32_t most) {
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;
    return round_int(__fmul_rn(__uint_as_float(most), power_of_two(-e))) > kMaxA16 ? e + 1 : e;
}

// The same in 16 bits: digits of 8 bits, number = 256 · high + low.
struct SuperBlock16 {
    uint32_t high[8];
    uint32_t low[8];
    float scale;
    bool finite;
};
__device__ inline SuperBlock16 quantise_super_block_16(const float (&x)[8]) {
    uint32_t most = 0;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
    most = warp_max(most);
    const bool zero = most < __float_as_uint(kTiny);
    const int32_t e = exponent_16(most);
    const float to_integer = zero ? 0.0F : power_of_two(-e);
    SuperBlock16 made;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const int32_t a = round_int(__fmul_rn(x[j], to_integer));
        made.high[j] = pack_lanes(static_cast<int32_t>(static_cast<uint32_t>(a) + 128) >> 8);
        made.low[j] = pack_lanes(a);
    }
    made.scale = zero ? 0.0F : power_of_two(e);
    made.finite = most < kInfinityBits;
    return made;
}

__device__ inline void store_word(const Activations& out, uint32_t row, size_t tile, uint32_t word) {
    const uint32_t lane = threadIdx.x % 32;
    if (lane % 4 != 0) return;
    const size_t at = out.order == ActivationOrder::kLanes
                          ? tile * kTileBytes + activation_byte(row % kTileRows, lane)
                          : tile / 8 * 8 * kTileBytes + core_byte(row % kTileRows, tile % 8, lane);
    *reinterpret_cast<uint32_t*>(out.q + at) = word;
}

__device__ inline void store_scale(const Activations& out, uint32_t row, size_t tile, float scale) {
    if (threadIdx.x % 32 == 0) out.scale[tile * kTileRows + row % kTileRows] = scale;
    if (scale >= kLargeScale) *out.large = 1;
}

// A group (A32P) or super-block written where linear layers read it (layout.h). Return whether all were finite.
__device__ inline bool store_group(const Activations& out, uint32_t row, uint32_t group, uint32_t groups, float x) {
    const Group made = quantise_group(x);
    const size_t tile = static_cast<size_t>(row / kTileRows) * groups + group;
    store_word(out, row, tile, made.word);
    store_scale(out, row, tile, made.scale);
    return made.finite;
}

// Bytes of 8 columns of a quad's lane, and its super-block's or group's scale; rows as in layout.h.
__device__ inline void store_eight(const Activations& out, uint32_t row, size_t super_block,
                                   const uint32_t (&word)[2]) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t col = lane % 4 * 8;
    uint8_t* q = out.q + super_block * 8 * kTileBytes;
    if (out.order == ActivationOrder::kCores) {
        *reinterpret_cast<uint2*>(q + core_byte(row % kTileRows, lane / 4, col)) = {word[0], word[1]};
    } else {
        q += lane / 4 * kTileBytes;
        *reinterpret_cast<uint32_t*>(q + activation_byte(row % kTileRows, col)) = word[0];
        *reinterpret_cast<uint32_t*>(q + activation_byte(row % kTileRows, col + 4)) = word[1];
    }
}

// Eight integers as bytes.
__device__ inline void pack_eight(const int32_t (&q)[8], uint32_t (&word)[2]) {
    word[0] = word[1] = 0;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) word[j / 4] |= (static_cast<uint32_t>(q[j]) & 255U) << j % 4 * 8;
}

// A super-block written where linear layers read it (layout.h), of whose values a lane has 8 lane … 8 lane + 7: a quad
// of lanes is a group. Returns whether all that it sees were finite.
template <ActivationKind kKind>
__device__ bool store_super_block(const Activations& out, uint32_t row, uint32_t sb, uint32_t super_blocks,
                                  const float (&x)[8]) {
    constexpr bool kGroups = kKind == ActivationKind::kA32P;
    constexpr bool kDigits = kKind == ActivationKind::kA16;
    constexpr auto kRange = static_cast<float>(kMaxA8);
    const uint32_t lane = threadIdx.x % 32;
    uint32_t most = 0;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
    if constexpr (kGroups) {
        most = max(most, __shfl_xor_sync(kAllLanes, most, 1));
        most = max(most, __shfl_xor_sync(kAllLanes, most, 2));
    } else {
        most = warp_max(most);
    }
    const bool zero = most < __float_as_uint(kTiny);
    const float largest = __uint_as_float(most);
    const int32_t e = kDigits ? exponent_16(most) : static_cast<int32_t>(most >> 23) - 127 - 6;
    float to_integer = 0.0F;
    float scale = 0.0F;
    if (!zero) {
        to_integer = kGroups || kDigits ? power_of_two(-e) : __fdiv_rn(kRange, largest);
        scale = kGroups || kDigits ? power_of_two(e) : __fdiv_rn(largest, kRange);
    }
    int32_t q[8];
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        q[j] = round_int(__fmul_rn(x[j], to_integer));
        if (kGroups) q[j] = min(max(q[j], -kMaxA8), kMaxA8);
    }
    constexpr uint32_t kRows = kDigits ? 2 : 1;
    const size_t at = static_cast<size_t>(kRows * row / kTileRows) * super_blocks + sb;
    uint32_t word[2];
    pack_eight(q, word);
    store_eight(out, kRows * row + kRows - 1, at, word);
    if constexpr (kDigits) {
#pragma unroll
        for (int32_t& digit : q) digit = static_cast<int32_t>(static_cast<uint32_t>(digit) + 128) >> 8;
        pack_eight(q, word);
        store_eight(out, 2 * row, at, word);
    }
    if (lane % (kGroups ? 4 : 32) == 0) {
        float* to = out.scale + (kGroups ? at * 8 + lane / 4 : at) * kTileRows + kRows * row % kTileRows;
        to[0] = scale;
        if (kDigits) to[1] = scale;
        if (scale >= kLargeScale) *out.large = 1;
    }
    return most < kInfinityBits;
}

// 8 floats from 8 lane on, of a row of n; zeros beyond.
__device__ inline void load_eight(const float* row, uint32_t n, uint32_t first, float (&x)[8]) {
    if (first + 8 <= n && n % 4 == 0) {
        const float4 a = *reinterpret_cast<const float4*>(row + first);
        const float4 b = *reinterpret_cast<const float4*>(row + first + 4);
        x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
        x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
        return;
    }
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) x[j] = first + j < n ? row[first + j] : 0.0F;
}

// The sum of squares, in lane 0, of one block of 256 values: value[j] of a lane is of the block's group j.
__device__ inline float warp_squares(const float (&value)[8]) {
    float sum = 0.0F;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) sum = __fmaf_rn(value[j], value[j], sum);
#pragma unroll
    for (uint32_t half = 16; half > 0; half /= 2) sum = __fadd_rn(sum, __shfl_down_sync(kAllLanes, sum, half));
    return sum;
}

// The same of one block of a row of n, and the lane's values.
__device__ inline float block_of_squares(const float* x, uint32_t n, uint32_t block, float (&value)[8]) {
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t i = block * kSuperBlock + j * 32 + threadIdx.x % 32;
        value[j] = i < n ? x[i] : 0.0F;
    }
    return warp_squares(value);
}

// Adds up the blocks' sums in order; `finite` says whether the sum is.
__device__ inline float norm_factor(const float* block_sum, uint32_t n, float eps, bool& finite) {
    float sum = 0.0F;
#pragma unroll 8
    for (uint32_t block = 0; block < super_blocks_of(n); ++block) sum = __fadd_rn(sum, block_sum[block]);
    finite = magnitude_bits(sum) < kInfinityBits;
    return __fdiv_rn(1.0F, __fsqrt_rn(__fmaf_rn(sum, __fdiv_rn(1.0F, static_cast<float>(n)), eps)));
}

}  // namespace driftwood::compute::cuda
