// Records: how weights of every type lie in the card's memory where they have no tiles of their own (layout.h; Q8_0
// under A32P and Q4_0 under A256 have). A record is what 16 rows have of one super-block, a matrix is records [row
// tile][super-block], filled up with zeros, which change no sum. Integers lie in the order in which the lanes of a warp
// hold the operand of mma.sync.m16n8k32, as in layout.h: of group j, lane 4 g + t has four words of four columns: (row
// g, columns 4t…), (row g + 8, 4t…), (row g, 16 + 4t…), (row g + 8, 16 + 4t…).
//
// `low` holds 4 bits of them, 16 bytes of a lane for two groups: of each a word for its left 16 columns and one for its
// right, row g in the low half of each byte, row g + 8 in the high half. `high` holds the bits above. Numbers that the
// contract shifts (n - 8, n - 16, n - 32) have their top bit turned, so that as many bits further up they are bytes
// with sign: operands are 2^kUp times the numbers, and scales are taken as much smaller, which changes no product.
#pragma once

#include "compute/constants.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

// kGroupScales: every group of 32 has a float scale (d, and m where there are minima). Otherwise integers under one
// float.
template <WeightType kType>
struct Record;

template <>
struct Record<WeightType::kQ8_0> {
    static constexpr uint32_t kBits = 8, kUp = 0;
    static constexpr bool kHasMin = false, kGroupScales = true;
    uint4 bytes[8][32];
    uint16_t d[kTileRows][8];
};

template <>
struct Record<WeightType::kQ4_0> {
    static constexpr uint32_t kBits = 4, kUp = 4;
    static constexpr bool kHasMin = false, kGroupScales = true;
    uint4 low[4][32];
    uint16_t d[kTileRows][8];
};

template <>
struct Record<WeightType::kQ4_1> {
    static constexpr uint32_t kBits = 4, kUp = 0;
    static constexpr bool kHasMin = true, kGroupScales = true;
    uint4 low[4][32];
    uint16_t d[kTileRows][8];
    uint16_t m[kTileRows][8];
};

// `high`: word k of a lane is of groups 2k and 2k + 1; bit i of a byte belongs to word i of those groups' eight.
template <>
struct Record<WeightType::kQ5_0> {
    static constexpr uint32_t kBits = 5, kUp = 3;
    static constexpr bool kHasMin = false, kGroupScales = true;
    uint4 low[4][32];
    uint4 high[1][32];
    uint16_t d[kTileRows][8];
};

template <>
struct Record<WeightType::kQ5_1> {
    static constexpr uint32_t kBits = 5, kUp = 0;
    static constexpr bool kHasMin = true, kGroupScales = true;
    uint4 low[4][32];
    uint4 high[1][32];
    uint16_t d[kTileRows][8];
    uint16_t m[kTileRows][8];
};

template <>
struct Record<WeightType::kQ4_K> {
    static constexpr uint32_t kBits = 4, kUp = 0;
    static constexpr bool kHasMin = true, kGroupScales = false;
    uint4 low[4][32];
    uint8_t scale[kTileRows][8];
    uint8_t min[kTileRows][8];
    uint16_t d[kTileRows];
    uint16_t dmin[kTileRows];
};

template <>
struct Record<WeightType::kQ5_K> {
    static constexpr uint32_t kBits = 5, kUp = 0;
    static constexpr bool kHasMin = true, kGroupScales = false;
    uint4 low[4][32];
    uint4 high[1][32];
    uint8_t scale[kTileRows][8];
    uint8_t min[kTileRows][8];
    uint16_t d[kTileRows];
    uint16_t dmin[kTileRows];
};

// `high`: a word of a lane is of one group, of whose word i it has bits 2i and 2i + 1 of each byte.
template <>
struct Record<WeightType::kQ6_K> {
    static constexpr uint32_t kBits = 6, kUp = 2;
    static constexpr bool kHasMin = false, kGroupScales = false;
    uint4 low[4][32];
    uint4 high[2][32];
    int8_t scale[kTileRows][16];
    uint16_t d[kTileRows];
};

template <>
struct Record<WeightType::kQ4S> {
    static constexpr uint32_t kBits = 4, kUp = 4;
    static constexpr bool kHasMin = false, kGroupScales = false;
    uint4 low[4][32];
    uint8_t scale[kTileRows][8];
    uint16_t d[kTileRows];
};

// Numbers as two digits with sign, 256 · high + low, as activations of 16 bits have them.
template <>
struct Record<WeightType::kW16> {
    static constexpr uint32_t kBits = 16, kUp = 0;
    static constexpr bool kHasMin = false, kGroupScales = false;
    uint4 high[8][32];
    uint4 low[8][32];
    float scale[kTileRows];
};

__device__ constexpr uint32_t word_of(const uint4& four, uint32_t i) {
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

__device__ inline void words_of(const uint4& four, uint32_t (&a)[4]) {
    a[0] = four.x;
    a[1] = four.y;
    a[2] = four.z;
    a[3] = four.w;
}

// A lane's operand of group j, 2^kUp times the numbers; of W16 the high digits.
template <WeightType kType>
__device__ void operand_of(const Record<kType>& record, uint32_t lane, uint32_t j, uint32_t (&a)[4]) {
    using R = Record<kType>;
    if constexpr (R::kBits == 16) {
        words_of(record.high[j][lane], a);
    } else if constexpr (R::kBits == 8) {
        words_of(record.bytes[j][lane], a);
    } else {
        constexpr uint32_t kMask = 0x0F0F0F0FU << R::kUp;
        const uint4 low = record.low[j / 2][lane];
        const uint32_t left = j % 2 == 0 ? low.x : low.z;
        const uint32_t right = j % 2 == 0 ? low.y : low.w;
        a[0] = left << R::kUp & kMask;
        a[1] = left >> (4 - R::kUp) & kMask;
        a[2] = right << R::kUp & kMask;
        a[3] = right >> (4 - R::kUp) & kMask;
    }
    if constexpr (R::kBits == 5) {
        constexpr uint32_t kMask = 0x10101010U << R::kUp;
        const uint32_t high = word_of(record.high[0][lane], j / 2);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t bit = j % 2 * 4 + i;
            constexpr uint32_t kTo = 4 + R::kUp;
            a[i] |= (bit <= kTo ? high << (kTo - bit) : high >> (bit - kTo)) & kMask;
        }
    }
    if constexpr (R::kBits == 6) {
        static_assert(R::kUp == 2);
        const uint32_t high = word_of(record.high[j / 4][lane], j % 4);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) a[i] |= high << (6 - 2 * i) & 0xC0C0C0C0U;
    }
}

// The number at (row, column).
template <WeightType kType>
__device__ int32_t number_of(const Record<kType>& record, uint32_t row, uint32_t col) {
    using R = Record<kType>;
    const uint32_t lane = row % 8 * 4 + col % 16 / 4;
    const uint32_t word = col % kTileCols / 16 * 2 + row / 8;
    uint32_t a[4];
    operand_of<kType>(record, lane, col / kTileCols, a);
    const auto byte = static_cast<uint8_t>(a[word] >> (8 * (col % 4)));
    if constexpr (R::kBits == 16) {
        const uint32_t low = word_of(record.low[col / kTileCols][lane], word);
        return 256 * static_cast<int8_t>(byte) + static_cast<int8_t>(low >> (8 * (col % 4)));
    }
    return static_cast<int8_t>(byte) >> R::kUp;
}

__device__ inline float half_of(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

// Scale d of a record, by as much smaller as its operands are larger.
template <WeightType kType>
__device__ float scale_of_operand(uint16_t bits) {
    return __fmul_rn(half_of(bits), 1.0F / (1U << Record<kType>::kUp));
}

// Bytes of a record of any type; 0 for plain floats, which have none.
__host__ __device__ constexpr uint32_t record_size(WeightType type) {
    switch (type) {
        case WeightType::kW16: return sizeof(Record<WeightType::kW16>);
        case WeightType::kQ8_0: return sizeof(Record<WeightType::kQ8_0>);
        case WeightType::kQ4_0: return sizeof(Record<WeightType::kQ4_0>);
        case WeightType::kQ4_1: return sizeof(Record<WeightType::kQ4_1>);
        case WeightType::kQ5_0: return sizeof(Record<WeightType::kQ5_0>);
        case WeightType::kQ5_1: return sizeof(Record<WeightType::kQ5_1>);
        case WeightType::kQ4_K: return sizeof(Record<WeightType::kQ4_K>);
        case WeightType::kQ5_K: return sizeof(Record<WeightType::kQ5_K>);
        case WeightType::kQ6_K: return sizeof(Record<WeightType::kQ6_K>);
        case WeightType::kQ4S: return sizeof(Record<WeightType::kQ4S>);
        default: return 0;
    }
}

static_assert(sizeof(Record<WeightType::kQ8_0>) == 4352 && sizeof(Record<WeightType::kW16>) == 8256);
static_assert(sizeof(Record<WeightType::kQ4_0>) == 2304 && sizeof(Record<WeightType::kQ4_1>) == 2560);
static_assert(sizeof(Record<WeightType::kQ5_0>) == 2816 && sizeof(Record<WeightType::kQ5_1>) == 3072);
static_assert(sizeof(Record<WeightType::kQ4_K>) == 2368 && sizeof(Record<WeightType::kQ5_K>) == 2880);
static_assert(sizeof(Record<WeightType::kQ6_K>) == 3360 && sizeof(Record<WeightType::kQ4S>) == 2208);

}  // namespace driftwood::compute::cuda
