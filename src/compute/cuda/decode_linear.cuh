// Rules 2, 3 and 4 for one token inside a block of the persistent kernel: activations, made by every block for itself,
// and the products of its tiles of rows with them.
//
// One token fills one column of eight of an mma. So a super-block in tiles goes through eight of them, one for each
// group, with the token's values in column j for group j and zeros elsewhere: the accumulators end up with all eight
// groups' sums, and the float chain over groups is one lane's work for a row. Records go through multiply.cuh, every
// column being the token's.
#pragma once

#include "compute/constants.h"
#include "compute/cuda/decode_exchange.cuh"
#include "compute/cuda/decode_ring.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/multiply.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

constexpr uint32_t kRoundUnits = 64;  // super-blocks of tiles between two meetings of the warps
constexpr uint32_t kMultiplyThreads = kMultipliers * 32;
constexpr uint32_t kBlocksAtOnce = 2;  // super-blocks of activations that a warp makes together
constexpr uint32_t kMostNormBlocks = kMultipliers * kBlocksAtOnce;
constexpr uint32_t kMostCols = 16384;  // so that a tile is at most a round

// The warps that multiply.
__device__ inline void meet() { asm volatile("bar.sync 1, %0;" ::"n"(kMultiplyThreads) : "memory"); }

struct LinearScratch {
    int32_t sums[kMultipliers][2][kTileRows * 8];
    float part[2][kRoundUnits * kTileRows];
};

// What a warp of a block works with.
struct Worker {
    uint32_t warp, lane;
    uint32_t* q;       // activations: [group][digit][8] words
    float* scale;      // [super-block], or of A32P [group]
    float* block_sum;  // [kMostNormBlocks]
    LinearScratch* scratch;
    uint32_t* fault;     // the block's
    Ring ring;           // the warp's
    uint32_t stage = 0;  // of both rings, the next phase's first
    uint32_t round = 0;

    __device__ void note(bool finite, uint32_t code) const {
        if (!finite && lane == 0) atomicMin(fault, code);
    }
};

// A super-block becomes the block's activations; value j of a lane is of group j. As quantise_super_block, but each
// lane puts its own bytes where they belong: the low byte of x + kRoundMagic is that of the integer. Of A256, the scale
// is taken as much smaller as operands are larger (linear.cuh, records.cuh have it in the weights' scale): `tiles`.
__device__ inline bool keep_super_block(const Worker& w, ActivationKind kind, bool tiles, uint32_t sb,
                                        const float (&x)[8]) {
    const bool digits = kind == ActivationKind::kA16;
    auto* to = reinterpret_cast<uint8_t*>(w.q) + sb * kSuperBlock * (digits ? 2 : 1) + w.lane;
    uint32_t most = 0;
    if (kind == ActivationKind::kA32P) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const uint32_t largest = warp_max(magnitude_bits(x[j]));
            most = max(most, largest);
            const bool zero = largest < __float_as_uint(kTiny);
            const int32_t e = static_cast<int32_t>(largest >> 23) - 127 - 6;
            const int32_t q = min(max(round_int(__fmul_rn(x[j], power_of_two(-e))), -kMaxA8), kMaxA8);
            to[j * kGroup] = static_cast<uint8_t>(zero ? 0 : q);
            if (w.lane == j) w.scale[sb * 8 + j] = zero ? 0.0F : power_of_two(e);
        }
        return most < kInfinityBits;
    }
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) most = max(most, magnitude_bits(x[j]));
    most = warp_max(most);
    const bool zero = most < __float_as_uint(kTiny);
    const float largest = __uint_as_float(most);
    if (digits) {
        const int32_t e = exponent_16(most);
        const float to_integer = zero ? 0.0F : power_of_two(-e);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const auto a = static_cast<uint32_t>(round_int(__fmul_rn(x[j], to_integer)));
            to[j * 2 * kGroup] = static_cast<uint8_t>((a + 128) >> 8);
            to[(j * 2 + 1) * kGroup] = static_cast<uint8_t>(a);
        }
        if (w.lane == 0) w.scale[sb] = zero ? 0.0F : power_of_two(e);
        return most < kInfinityBits;
    }
    constexpr auto kRange = static_cast<float>(kMaxA8);
    const float to_integer = zero ? 0.0F : __fdiv_rn(kRange, largest);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        to[j * kGroup] = static_cast<uint8_t>(round_int(__fmul_rn(x[j], to_integer)));
    }
    // A sixteenth: a power of two passes through every rounding.
    const float scale = zero ? 0.0F : __fdiv_rn(largest, kRange);
    if (w.lane == 0) w.scale[sb] = tiles ? __fmul_rn(scale, 0.0625F) : scale;
    return most < kInfinityBits;
}

// What a phase multiplies: n values of an exchange, after RMSNorm where there is a weight.
struct Inputs {
    const uint64_t* from;
    uint32_t tag;
    uint32_t n;
    const float* weight;  // with n at most kMostNormBlocks super-blocks
    ActivationKind kind;
    bool tiles;  // whether the matrix lies in tiles
    uint32_t code;
};

// A warp fetches two super-blocks at once and goes through them one after the other with the same code: what a block
// runs once a layer had better be short, or it comes from memory each time.
__device__ inline void make_activations(const Worker& w, const Inputs& in, float eps) {
    constexpr uint32_t kValues = kBlocksAtOnce * 8;
    const uint32_t blocks = super_blocks_of(in.n);
    for (uint32_t first = 0; first < blocks; first += kMostNormBlocks) {
        const uint32_t at = (first + w.warp) * kSuperBlock + w.lane;
        const auto offset = [](uint32_t i) { return i / 8 * kMultipliers * kSuperBlock + i % 8 * kGroup; };
        float factor_of[8];
        const auto hold_factors = [&](uint32_t begin) {
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                const uint32_t i = begin + j * kGroup;
                factor_of[j] = in.weight != nullptr && i < in.n ? in.weight[i] : 0.0F;
            }
        };
        hold_factors(at);
        uint32_t bits[kValues];
        fetch<true>(
            in.tag, [&](uint32_t i) { return at + offset(i) < in.n ? in.from + at + offset(i) : nullptr; }, bits);
        float x[kValues];
#pragma unroll
        for (uint32_t i = 0; i < kValues; ++i) x[i] = __uint_as_float(bits[i]);
        if (in.weight != nullptr) {
#pragma unroll
            for (uint32_t b = 0; b < kBlocksAtOnce; ++b) {
                const uint32_t block = b * kMultipliers + w.warp;
                if (block >= blocks) break;
                float value[8];
#pragma unroll
                for (uint32_t j = 0; j < 8; ++j) value[j] = x[b * 8 + j];
                const float sum = warp_squares(value);
                if (w.lane == 0) w.block_sum[block] = sum;
            }
        }
        if (first == 0) meet();  // nobody uses the activations before these any more
        bool finite = true;
        const float factor = in.weight != nullptr ? norm_factor(w.block_sum, in.n, eps, finite) : 0.0F;
#pragma unroll 1
        for (uint32_t block = first + w.warp; block < min(blocks, first + kMostNormBlocks); block += kMultipliers) {
            float value[8];
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) {
                value[j] = in.weight != nullptr ? __fmul_rn(__fmul_rn(x[j], factor), factor_of[j]) : x[j];
                x[j] = x[8 + j];
            }
            finite &= keep_super_block(w, in.kind, in.tiles, block, value);
            hold_factors(at + kMultipliers * kSuperBlock);
        }
        w.note(finite, in.code);
    }
    meet();
}

// What the warp will want of a norm's weights, nearer: by the time they are read, the stream of weights has driven them
// out of the caches.
__device__ inline void prefetch_norm(const Worker& w, const float* weight, uint32_t n) {
    for (uint32_t i = w.warp * kSuperBlock + w.lane; i < n; i += kMultiplyThreads * 8) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            if (i + j * kGroup < n) asm volatile("prefetch.global.L1 [%0];" ::"l"(weight + i + j * kGroup));
        }
    }
}

// Word of a row's sums: the halves of rows 4 to 7 of eight are swapped, so that reading a row's eight meets no bank
// twice.
__device__ inline uint32_t sum_word(uint32_t row, uint32_t group) { return row * 8 + (group ^ (row & 4U)); }

// The integer sums of the groups of one tile and super-block, to `sums` as sum_word says.
template <WeightType kType>
__device__ void sum_groups(const Worker& w, const uint8_t* weights, uint32_t sb, int32_t* sums) {
    const uint32_t* q = w.q + sb * 64 + w.lane / 4 * 8 + w.lane % 4;
    const uint32_t left = q[0];
    const uint32_t right = q[4];
    int32_t even[4] = {}, odd[4] = {};
#pragma unroll
    for (uint32_t load = 0; load < 8 / kGroupsPerLoad<kType>; ++load) {
        const uint4 tile = *reinterpret_cast<const uint4*>(weights + load * kTileBytes + w.lane * 16);
#pragma unroll
        for (uint32_t i = 0; i < kGroupsPerLoad<kType>; ++i) {
            const uint32_t j = load * kGroupsPerLoad<kType> + i;
            uint32_t a[4];
            operand<kType>(tile, i, a);
            mma_s8s8(j % 2 == 0 ? even : odd, a, w.lane / 4 == j ? left : 0, w.lane / 4 == j ? right : 0);
        }
    }
    const uint32_t g = w.lane / 4;
    const uint32_t t = w.lane % 4;
    *reinterpret_cast<int2*>(sums + sum_word(g, 2 * t)) = {even[0] + odd[0], even[1] + odd[1]};
    *reinterpret_cast<int2*>(sums + sum_word(g + 8, 2 * t)) = {even[2] + odd[2], even[3] + odd[3]};
}

// Rule 3's t of one row and super-block from its sums and its eight f16 scales.
template <WeightType kType>
__device__ float chain_groups(const Worker& w, const int32_t* sums, const uint4& halves, uint32_t sb) {
    const uint32_t row = w.lane % kTileRows;
    int32_t sum[8];
    *reinterpret_cast<int4*>(sum) = *reinterpret_cast<const int4*>(sums + sum_word(row, 0));
    *reinterpret_cast<int4*>(sum + 4) = *reinterpret_cast<const int4*>(sums + sum_word(row, 4));
    const uint32_t pairs[4] = {halves.x, halves.y, halves.z, halves.w};
    float t = 0.0F;
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
        const auto half = static_cast<uint16_t>(j % 2 == 0 ? pairs[j / 2] & 0xFFFFU : pairs[j / 2] >> 16);
        auto f = static_cast<float>(sum[j]);
        if constexpr (kind_of(kType) == ActivationKind::kA32P) f = __fmul_rn(f, w.scale[sb * 8 + j]);
        t = __fmaf_rn(__half2float(__ushort_as_half(half)), f, t);
    }
    return t;
}

// A row's sum over its super-blocks, from the parts of a round.
__device__ inline float join_parts(const Worker& w, ActivationKind kind, const float* part, uint32_t super_blocks,
                                   uint32_t tile, uint32_t row) {
    const float* parts = part + tile * super_blocks * kTileRows + row;
    float acc = 0.0F;
    if (kind == ActivationKind::kA32P) {
#pragma unroll 8
        for (uint32_t sb = 0; sb < super_blocks; ++sb) acc = __fadd_rn(acc, parts[sb * kTileRows]);
    } else {
#pragma unroll 8
        for (uint32_t sb = 0; sb < super_blocks; ++sb) {
            acc = __fmaf_rn(parts[sb * kTileRows], w.scale[sb], acc);
        }
    }
    return acc;
}

// One round: `tiles` tiles as they come out of the rings, kUnits super-blocks a stage. A warp has a super-block of
// every stage of its ring, or of every second or fourth: body(number of the tile and super-block among the round's,
// super-block, stage, its place in the stage).
template <uint32_t kUnits, class Body>
__device__ void take_stages(Worker& w, uint32_t tiles, uint32_t super_blocks, const Body& body) {
    static_assert(kRingWarps % kUnits == 0);
    const uint32_t tile_stages = (super_blocks + kUnits - 1) / kUnits;
    const uint32_t stages = tiles * tile_stages;
    const uint32_t ring = w.warp / kRingWarps;
    const uint32_t first = (w.stage + ring) % kRings;
    w.stage += stages;
    uint32_t tile = first / tile_stages;
    uint32_t part_of_tile = first % tile_stages;
    for (uint32_t s = first; s < stages; s += kRings) {
        const uint8_t* stage = w.ring.wait();
        const uint32_t i = w.warp % kUnits;
        const uint32_t sb = part_of_tile * kUnits + i;
        const bool mine = s / kRings % (kRingWarps / kUnits) == w.warp % kRingWarps / kUnits;
        if (mine && sb < super_blocks) body(tile * super_blocks + sb, sb, stage, i);
        w.ring.leave();
        for (part_of_tile += kRings; part_of_tile >= tile_stages; part_of_tile -= tile_stages) ++tile;
    }
}

// A round of tiles, their parts into `part`. Two super-blocks together keep all lanes of a warp busy with the rows'
// chains.
template <WeightType kType>
__device__ void multiply_tiles(Worker& w, uint32_t tiles, uint32_t super_blocks, float* part) {
    int32_t* sums = w.scratch->sums[w.warp][0];
    uint4 halves{};
    uint32_t unit = 0, sb = 0;  // the lane's row's
    uint32_t kept = 0;
    const auto chain = [&] {
        __syncwarp();
        if (w.lane < kept * kTileRows) {
            part[unit * kTileRows + w.lane % kTileRows] =
                chain_groups<kType>(w, sums + w.lane / kTileRows * kTileRows * 8, halves, sb);
        }
        kept = 0;
        __syncwarp();
    };
    take_stages<stage_units(8 * tile_bytes(kType))>(
        w, tiles, super_blocks, [&](uint32_t number, uint32_t block, const uint8_t* stage, uint32_t i) {
            sum_groups<kType>(w, stage + i * 8 * tile_bytes(kType), block, sums + kept * kTileRows * 8);
            if (w.lane / kTileRows == kept) {
                const uint8_t* scales = stage + kStageWeights + i * kScaleRow * sizeof(uint16_t);
                halves = *reinterpret_cast<const uint4*>(scales + w.lane % kTileRows * 16);
                sb = block;
                unit = number;
            }
            if (++kept == 2) chain();
        });
    if (kept > 0) chain();
}

// The same of records.
template <WeightType kType, ActivationKind kKind>
__device__ void multiply_records(Worker& w, uint32_t tiles, uint32_t super_blocks, float* part) {
    const uint32_t* q = w.q + w.lane / 4 % kDigits<kKind> * 8 + w.lane % 4;
    take_stages<stage_units(record_size(kType))>(
        w, tiles, super_blocks, [&](uint32_t number, uint32_t sb, const uint8_t* stage, uint32_t i) {
            const Record<kType>* const record[1] = {reinterpret_cast<const Record<kType>*>(stage) + i};
            const auto columns = [&](uint32_t j, uint32_t) {
                const uint32_t* group = q + (sb * 8 + j) * kDigits<kKind> * 8;
                return uint2{group[0], group[4]};
            };
            Partials<kKind, 1, 1> t;
            multiply<kType, kKind, 1, 1>(record, columns, t);
            if (w.lane % 4 != 0) return;
            float* to = part + number * kTileRows + w.lane / 4;
            to[0] = t[0][0][0];
            to[8] = t[0][0][kLaneOutputs<kKind> / 2];
        });
}

template <ActivationKind kKind>
__device__ void multiply_records_of(WeightType type, Worker& w, uint32_t tiles, uint32_t super_blocks, float* part) {
    constexpr bool kAll = kKind == ActivationKind::kA16;  // the others lie in tiles, or have no other kind
    switch (type) {
        case WeightType::kQ4_1: return multiply_records<WeightType::kQ4_1, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ5_0: return multiply_records<WeightType::kQ5_0, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ5_1: return multiply_records<WeightType::kQ5_1, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ4_K: return multiply_records<WeightType::kQ4_K, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ5_K: return multiply_records<WeightType::kQ5_K, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ6_K: return multiply_records<WeightType::kQ6_K, kKind>(w, tiles, super_blocks, part);
        case WeightType::kQ4S: return multiply_records<WeightType::kQ4S, kKind>(w, tiles, super_blocks, part);
        default: break;
    }
    if constexpr (kAll) {
        if (type == WeightType::kW16) return multiply_records<WeightType::kW16, kKind>(w, tiles, super_blocks, part);
        if (type == WeightType::kQ8_0) return multiply_records<WeightType::kQ8_0, kKind>(w, tiles, super_blocks, part);
        return multiply_records<WeightType::kQ4_0, kKind>(w, tiles, super_blocks, part);
    }
}

// All tiles of the block of one phase; `emit(first tile, tiles, part)` after each round of at most `round_tiles`, by
// all threads. matrix_of(first tile, tiles) is the matrix of these tiles; it takes so many from `tiles` that they are
// of one type.
template <bool kRecords, class MatrixOf, class Emit>
__device__ void multiply_phase(Worker& w, uint32_t tiles, uint32_t super_blocks, uint32_t round_tiles,
                               const MatrixOf& matrix_of, const Emit& emit) {
    for (uint32_t first = 0, count = 0; first < tiles; first += count) {
        count = min(round_tiles, tiles - first);
        const TiledMatrix& matrix = matrix_of(first, count);
        float* part = w.scratch->part[w.round++ % 2];
        if (kRecords && !in_tiles(matrix)) {
            if (matrix.kind == ActivationKind::kA16) {
                multiply_records_of<ActivationKind::kA16>(matrix.type, w, count, super_blocks, part);
            } else {
                multiply_records_of<ActivationKind::kA256>(matrix.type, w, count, super_blocks, part);
            }
        } else if (matrix.type == WeightType::kQ8_0) {
            multiply_tiles<WeightType::kQ8_0>(w, count, super_blocks, part);
        } else {
            multiply_tiles<WeightType::kQ4_0>(w, count, super_blocks, part);
        }
        meet();
        emit(first, count, part);
    }
}

}  // namespace driftwood::compute::cuda
