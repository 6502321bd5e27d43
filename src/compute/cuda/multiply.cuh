// Rule 3's t of one super-block, for every type of weights in records and both kinds of activations: exact integer sums
// from mma.sync, then the contract's float steps.
//
// Activations of 16 bits are two digits, and a token's digits are two columns of the operand, the high one first: so a
// lane, which holds columns 2t and 2t + 1 of a product, has both digits of a row's and token's sum, and one mma makes
// both. Sums over activations alone (of groups, for minima) come from an mma too: of ones, or of the minima.
#pragma once

#include "compute/cuda/kernels.h"
#include "compute/cuda/mma.cuh"
#include "compute/cuda/records.cuh"

namespace driftwood::compute::cuda {

// Columns of activations of a token, and outputs of a lane in 8 columns: A256 (row g, tokens 2t, 2t + 1), (row g + 8,
// the same); A16 (row g, token t), (row g + 8, token t).
template <ActivationKind kKind>
inline constexpr uint32_t kDigits = kKind == ActivationKind::kA16 ? 2 : 1;
template <ActivationKind kKind>
inline constexpr uint32_t kLaneOutputs = 4 / kDigits<kKind>;

// Row (0: g, 1: g + 8) and token, within 8 columns and before 2t or t is added, of a lane's output k.
template <ActivationKind kKind>
__device__ constexpr uint32_t output_row(uint32_t k) {
    return k / (kLaneOutputs<kKind> / 2);
}
template <ActivationKind kKind>
__device__ uint32_t output_token(uint32_t k) {
    const uint32_t t = threadIdx.x % 4;
    return kKind == ActivationKind::kA16 ? t : 2 * t + k % 2;
}

// Integer sum number k of a lane, from the products of its columns.
template <ActivationKind kKind>
__device__ int32_t whole(const int32_t (&i)[4], uint32_t k) {
    if constexpr (kKind == ActivationKind::kA16) return 256 * i[2 * k] + i[2 * k + 1];
    return i[k];
}

// The same where only the digits' sums fit into an integer.
template <ActivationKind kKind>
__device__ float whole_float(const int32_t (&i)[4], uint32_t k) {
    if constexpr (kKind == ActivationKind::kA16) {
        return __fmaf_rn(256.0F, static_cast<float>(i[2 * k]), static_cast<float>(i[2 * k + 1]));
    }
    return static_cast<float>(i[k]);
}

// Byte i of words in every byte, as a number, and as a number with sign; half i of words.
template <uint32_t kWords>
__device__ uint32_t in_every_byte(const uint32_t (&words)[kWords], uint32_t i) {
    return __byte_perm(words[i / 4], 0, i % 4 * 0x1111U);
}
template <uint32_t kWords>
__device__ int32_t byte_at(const uint32_t (&words)[kWords], uint32_t i) {
    return static_cast<int32_t>(__byte_perm(words[i / 4], 0, 0x4440U + i % 4));
}
template <uint32_t kWords>
__device__ int32_t signed_byte_at(const uint32_t (&words)[kWords], uint32_t i) {
    return static_cast<int32_t>(words[i / 4] << (24 - i % 4 * 8)) >> 24;
}
template <uint32_t kWords>
__device__ uint16_t half_at(const uint32_t (&words)[kWords], uint32_t i) {
    return static_cast<uint16_t>(i % 2 == 0 ? words[i / 2] & 0xFFFFU : words[i / 2] >> 16);
}

// A row's scales, of 8 or 16 bytes.
__device__ inline void load_row(const void* row, uint32_t (&words)[2]) {
    const uint2 two = *static_cast<const uint2*>(row);
    words[0] = two.x;
    words[1] = two.y;
}
__device__ inline void load_row(const void* row, uint32_t (&words)[4]) {
    words_of(*static_cast<const uint4*>(row), words);
}

// t[tile of rows][tile of 8 columns][output of the lane]; columns(j, n) is the lane's operand of group j and tile n.
template <ActivationKind kKind, uint32_t kM, uint32_t kN>
using Partials = float[kM][kN][kLaneOutputs<kKind>];

template <WeightType kType, ActivationKind kKind, uint32_t kM, uint32_t kN, class Columns>
__device__ void multiply_groups(const Record<kType>* const (&record)[kM], const Columns& columns,
                                Partials<kKind, kM, kN>& t) {
    constexpr uint32_t kOutputs = kLaneOutputs<kKind>;
    const uint32_t lane = threadIdx.x % 32;
    uint32_t scales[kM][2][4];  // of rows g and g + 8, 8 halves
    uint32_t minima[kM][2][4];
#pragma unroll
    for (uint32_t m = 0; m < kM; ++m) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            load_row(record[m]->d[lane / 4 + 8 * i], scales[m][i]);
            if constexpr (Record<kType>::kHasMin) load_row(record[m]->m[lane / 4 + 8 * i], minima[m][i]);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        uint2 b[kN];
        float sum[kN][kOutputs];
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
            b[n] = columns(j, n);
            if constexpr (!Record<kType>::kHasMin) continue;
            constexpr uint32_t kOnes = 0x01010101U;
            const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
            int32_t i[4] = {};
            mma_s8s8(i, ones, b[n].x, b[n].y);
#pragma unroll
            for (uint32_t k = 0; k < kOutputs; ++k) sum[n][k] = static_cast<float>(whole<kKind>(i, k));
        }
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) {
            uint32_t a[4];
            operand_of<kType>(*record[m], lane, j, a);
            const float d[2] = {scale_of_operand<kType>(half_at(scales[m][0], j)),
                                scale_of_operand<kType>(half_at(scales[m][1], j))};
            float min[2] = {};
            if constexpr (Record<kType>::kHasMin) {
                min[0] = half_of(half_at(minima[m][0], j));
                min[1] = half_of(half_at(minima[m][1], j));
            }
#pragma unroll
            for (uint32_t n = 0; n < kN; ++n) {
                int32_t i[4] = {};
                mma_s8s8(i, a, b[n].x, b[n].y);
#pragma unroll
                for (uint32_t k = 0; k < kOutputs; ++k) {
                    const uint32_t row = output_row<kKind>(k);
                    float& out = t[m][n][k];
                    out = __fmaf_rn(d[row], static_cast<float>(whole<kKind>(i, k)), j == 0 ? 0.0F : out);
                    if constexpr (Record<kType>::kHasMin) out = __fmaf_rn(min[row], sum[n][k], out);
                }
            }
        }
    }
}

// A lane's rows' integer scales and minima.
template <WeightType kType>
struct IntegerScales {
    uint32_t scale[2][kType == WeightType::kQ6_K ? 4 : 2];
    uint32_t min[2][2];

    __device__ void load(const Record<kType>& record) {
        const uint32_t g = threadIdx.x % 32 / 4;
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            load_row(record.scale[g + 8 * i], scale[i]);
            if constexpr (Record<kType>::kHasMin) load_row(record.min[g + 8 * i], min[i]);
        }
    }
};

// Adds group j of one tile of rows, its integers times the groups' integer scales, to sum, and the minima times the
// activations to minima.
template <WeightType kType, uint32_t kN>
__device__ void add_scaled_group(const Record<kType>& record, const IntegerScales<kType>& scales, uint32_t j,
                                 const uint2 (&b)[kN], int32_t (&sum)[kN][4], int32_t (&minima)[kN][4]) {
    uint32_t a[4];
    operand_of<kType>(record, threadIdx.x % 32, j, a);
    if constexpr (kType == WeightType::kQ6_K) {
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) {
            const int32_t scale[2] = {signed_byte_at(scales.scale[0], 2 * j + half),
                                      signed_byte_at(scales.scale[1], 2 * j + half)};
#pragma unroll
            for (uint32_t n = 0; n < kN; ++n) {
                int32_t i[4] = {};
                mma_s8s8_half(i, a[2 * half], a[2 * half + 1], half == 0 ? b[n].x : b[n].y);
#pragma unroll
                for (uint32_t k = 0; k < 4; ++k) sum[n][k] += scale[k / 2] * i[k];
            }
        }
    } else {
        const int32_t scale[2] = {byte_at(scales.scale[0], j), byte_at(scales.scale[1], j)};
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
            int32_t i[4] = {};
            mma_s8s8(i, a, b[n].x, b[n].y);
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) sum[n][k] += scale[k / 2] * i[k];
        }
    }
    if constexpr (Record<kType>::kHasMin) {
        const uint32_t upper = in_every_byte(scales.min[0], j);
        const uint32_t lower = in_every_byte(scales.min[1], j);
        const uint32_t min[4] = {upper, lower, upper, lower};
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) mma_s8s8(minima[n], min, b[n].x, b[n].y);
    }
}

template <WeightType kType, ActivationKind kKind, uint32_t kM, uint32_t kN, class Columns>
__device__ void multiply_super_block(const Record<kType>* const (&record)[kM], const Columns& columns,
                                     Partials<kKind, kM, kN>& t) {
    int32_t sum[kM][kN][4] = {};
    int32_t minima[kM][kN][4] = {};
    IntegerScales<kType> scales[kM];
#pragma unroll
    for (uint32_t m = 0; m < kM; ++m) scales[m].load(*record[m]);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        uint2 b[kN];
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) b[n] = columns(j, n);
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) add_scaled_group<kType>(*record[m], scales[m], j, b, sum[m], minima[m]);
    }
    const uint32_t g = threadIdx.x % 32 / 4;
#pragma unroll
    for (uint32_t m = 0; m < kM; ++m) {
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < kLaneOutputs<kKind>; ++k) {
                const uint32_t row = g + 8 * output_row<kKind>(k);
                const float d = scale_of_operand<kType>(record[m]->d[row]);
                const float f = whole_float<kKind>(sum[m][n], k);
                if constexpr (Record<kType>::kHasMin) {
                    const float dmin = half_of(record[m]->dmin[row]);
                    t[m][n][k] = __fmaf_rn(d, f, -__fmul_rn(dmin, static_cast<float>(whole<kKind>(minima[m][n], k))));
                } else {
                    t[m][n][k] = __fmul_rn(d, f);
                }
            }
        }
    }
}

// Both digits of weights by both of activations: a lane's sums of high digits and of low ones.
template <uint32_t kM, uint32_t kN, class Columns>
__device__ void multiply_w16(const Record<WeightType::kW16>* const (&record)[kM], const Columns& columns,
                             Partials<ActivationKind::kA16, kM, kN>& t) {
    // Where there are few sums, two of each, so that an mma need not wait for the one before.
    constexpr uint32_t kChains = kM * kN == 1 ? 2 : 1;
    const uint32_t lane = threadIdx.x % 32;
    int32_t high[kM][kN][kChains][4] = {};
    int32_t low[kM][kN][kChains][4] = {};
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        uint2 b[kN];
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) b[n] = columns(j, n);
#pragma unroll
        for (uint32_t m = 0; m < kM; ++m) {
            uint32_t a[4];
            words_of(record[m]->high[j][lane], a);
#pragma unroll
            for (uint32_t n = 0; n < kN; ++n) mma_s8s8(high[m][n][j % kChains], a, b[n].x, b[n].y);
            words_of(record[m]->low[j][lane], a);
#pragma unroll
            for (uint32_t n = 0; n < kN; ++n) mma_s8s8(low[m][n][j % kChains], a, b[n].x, b[n].y);
        }
    }
#pragma unroll
    for (uint32_t m = 0; m < kM; ++m) {
        const float scale[2] = {record[m]->scale[lane / 4], record[m]->scale[lane / 4 + 8]};
#pragma unroll
        for (uint32_t n = 0; n < kN; ++n) {
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) {
#pragma unroll
                for (uint32_t c = 1; c < kChains; ++c) {
                    high[m][n][0][k] += high[m][n][c][k];
                    low[m][n][0][k] += low[m][n][c][k];
                }
                low[m][n][0][k] += 256 * high[m][n][0][k];
            }
#pragma unroll
            for (uint32_t k = 0; k < 2; ++k) {
                t[m][n][k] = __fmul_rn(scale[k], whole_float<ActivationKind::kA16>(low[m][n][0], k));
            }
        }
    }
}

template <WeightType kType, ActivationKind kKind, uint32_t kM, uint32_t kN, class Columns>
__device__ void multiply(const Record<kType>* const (&record)[kM], const Columns& columns, Partials<kKind, kM, kN>& t) {
    if constexpr (kType == WeightType::kW16) {
        multiply_w16<kM, kN>(record, columns, t);
    } else if constexpr (Record<kType>::kGroupScales) {
        multiply_groups<kType, kKind, kM, kN>(record, columns, t);
    } else {
        multiply_super_block<kType, kKind, kM, kN>(record, columns, t);
    }
}

}  // namespace driftwood::compute::cuda
