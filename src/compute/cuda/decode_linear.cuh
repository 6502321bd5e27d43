// Rules 2, 3 and 4 for one token inside a block of the persistent kernel: activations, made by every block for itself,
// and the products of its tiles of rows with them.
//
// One token would fill one column of eight of an mma, which takes its time whatever it is for: tiles go through sums of
// four products, a lane having two rows and two groups. Records go through multiply.cuh, every column being the
// token's.
#pragma once

#include "compute/constants.h"
#include "compute/cuda/decode_exchange.cuh"
#include "compute/cuda/decode_ring.cuh"
#include "compute/cuda/linear.cuh"
#include "compute/cuda/multiply.cuh"
#include "compute/cuda/quantise.cuh"

namespace driftwood::compute::cuda {

// Types of a model's weights, as far as they are known where the kernel is compiled: code that a layer does not run
// keeps other code out of the caches. The embedding is of one type with the rest in kQ4_0 and kQ8_0 only, which are in
// tiles.
enum class StepTypes : uint8_t { kQ4_0, kQ8_0, kW16, kAny };
constexpr bool are_tiles(StepTypes types) { return types == StepTypes::kQ4_0 || types == StepTypes::kQ8_0; }

constexpr uint32_t kRoundUnits = 64;    // super-blocks of tiles between two meetings of the warps
constexpr uint32_t kRoundParts = 1536;  // their parts, rows padded
constexpr uint32_t kMultiplyThreads = kMultipliers * 32;
constexpr uint32_t kMostNormBlocks = 32;
constexpr uint32_t kMostCols = 16384;  // so that a tile is at most a round

// The warps that multiply.
__device__ inline void meet() { asm volatile("bar.sync 1, %0;" ::"n"(kMultiplyThreads) : "memory"); }

// What products leave: for each row a part of each super-block.
struct LinearScratch {
    alignas(16) float part[2][kRoundParts];
};
// Floats of a row, so that it is read by fours and neither rows nor super-blocks meet a bank twice.
__device__ inline uint32_t row_parts(uint32_t super_blocks) { return (super_blocks + 3) / 4 * 4 + 4; }

// The compiler keeps this, rather than find it again each time it is used.
__device__ inline void hold(uint32_t& x) { asm volatile("" : "+r"(x)); }

__device__ inline uint4 load_shared(uint32_t address) {
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(address)
                 : "memory");
    return x;
}

__device__ inline void store_shared(uint32_t address, float x) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(x) : "memory");
}

// Where lane 8 p + g finds what is its own: groups 2 p and 2 p + 1 of rows g and g + 8. Of each group's columns it
// takes the quarters in an order of its own, so that lanes with different g meet no bank twice.
struct TilePlace {
    uint32_t weights;      // of a tile, groups apart
    uint32_t activations;  // the address of the first super-block's
    uint32_t scales;       // of a tile
};
__device__ inline TilePlace tile_place(const uint32_t* q) {
    const uint32_t pair = threadIdx.x % 32 / 8;
    const uint32_t g = threadIdx.x % 8;
    TilePlace place = {g * 64 + g / 2 * 16, shared_address(q) + g / 2 * 64 + (pair ^ g / 4) * 16, g * 16 + pair * 4};
    hold(place.weights);
    hold(place.activations);
    hold(place.scales);
    return place;
}

// What a warp of a block works with.
struct Worker {
    uint32_t warp, lane;
    uint32_t* q;       // activations, from a multiple of kSuperBlock bytes on: for records [group][digit][8] words, for
                       // tiles as keep_super_block says
    float* scale;      // [super-block], or of A32P [group]
    float* block_sum;  // [kMostNormBlocks], zeros beyond the last
    LinearScratch* scratch;
    uint32_t* fault;     // the block's
    Ring ring;           // the warp's
    uint32_t stage = 0;  // of both rings, the next phase's first
    uint32_t round = 0;
    TilePlace place{};  // of the lane

    __device__ void note(bool finite, uint32_t code) const {
        if (!finite && lane == 0) atomicMin(fault, code);
    }
};

// A super-block becomes the block's activations; value j of a lane is of group j. As quantise_super_block, but each
// lane puts its own bytes where they belong: the low byte of x + kRoundMagic is that of the integer. For tiles,
// words are where multiply_tile wants them: [t][pair of groups][group of it][half of the columns] for columns 4 t… of
// each half, the pairs swapped by twos where t is 2 or 3, so that lanes with different t meet no bank twice. Of A256,
// the scale is taken as much smaller as operands are larger (linear.cuh, records.cuh have it in the weights' scale):
// `tiles`.
__device__ inline bool keep_super_block(const Worker& w, ActivationKind kind, bool tiles, uint32_t sb,
                                        const float (&x)[8]) {
    const bool digits = kind == ActivationKind::kA16;
    auto* to = reinterpret_cast<uint8_t*>(w.q) + sb * kSuperBlock * (digits ? 2 : 1);
    to += tiles ? w.lane % 16 / 4 * 64 + w.lane / 16 * 4 + w.lane % 4 : w.lane;
    const uint32_t stride = tiles ? 8 : kGroup;  // of groups
    const uint32_t swap = tiles ? w.lane % 16 / 8 * 16 : 0;
    uint32_t most = 0;
    if (kind == ActivationKind::kA32P) {
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) {
            const uint32_t largest = warp_max(magnitude_bits(x[j]));
            most = max(most, largest);
            const bool zero = largest < __float_as_uint(kTiny);
            const int32_t e = static_cast<int32_t>(largest >> 23) - 127 - 6;
            const int32_t q = min(max(round_int(__fmul_rn(x[j], power_of_two(-e))), -kMaxA8), kMaxA8);
            to[(j * stride) ^ swap] = static_cast<uint8_t>(zero ? 0 : q);
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
        to[(j * stride) ^ swap] = static_cast<uint8_t>(round_int(__fmul_rn(x[j], to_integer)));
    }
    // A sixteenth: a power of two passes through every rounding.
    const float scale = zero ? 0.0F : __fdiv_rn(largest, kRange);
    if (w.lane == 0) w.scale[sb] = tiles ? __fmul_rn(scale, 0.0625F) : scale;
    return most < kInfinityBits;
}

// What a phase multiplies: n values of an exchange, after RMSNorm where there is a weight; where there are scales,
// words of activations that share_super_block has made of them.
struct Inputs {
    const uint64_t* from;
    const uint64_t* scales;
    uint32_t tag;
    uint32_t n;
    const float* weight;  // with n at most kMostNormBlocks super-blocks
    ActivationKind kind;
    bool tiles;  // whether the matrix lies in tiles
    uint32_t code;
};

__device__ inline uint32_t activation_words(const Inputs& in) {
    return super_blocks_of(in.n) * (in.kind == ActivationKind::kA16 ? 128 : 64);
}
__device__ inline uint32_t scales_of(const Inputs& in) {
    return super_blocks_of(in.n) * (in.kind == ActivationKind::kA32P ? 8 : 1);
}

// Values of one super-block, value j of a lane of group j.
template <bool kOneFirst>
__device__ inline void fetch_super_block(const Inputs& in, uint32_t sb, uint32_t lane, float (&x)[8]) {
    const uint64_t* const from = in.from + sb * kSuperBlock + lane;
    const uint32_t left = in.n - min(in.n, sb * kSuperBlock + lane);
    uint32_t bits[8];
    fetch<kOneFirst>(
        in.tag, [&](uint32_t j) { return j * kGroup < left ? from + j * kGroup : nullptr; }, bits);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) x[j] = __uint_as_float(bits[j]);
}

// RMSNorm's factor, as the other kernels' norm_factor; the width's inverse is known.
__device__ inline float norm_factor(const float* block_sum, uint32_t blocks, float inverse_width, float eps,
                                    bool& finite) {
    float sum = 0.0F;
#pragma unroll 2
    for (uint32_t block = 0; block < blocks; block += 4) {
        const float4 four = *reinterpret_cast<const float4*>(block_sum + block);
        sum = __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(sum, four.x), four.y), four.z), four.w);
    }
    finite = magnitude_bits(sum) < kInfinityBits;
    return __fdiv_rn(1.0F, __fsqrt_rn(__fmaf_rn(sum, inverse_width, eps)));
}

// Every block makes all activations for itself, a warp every sixteenth super-block. What a warp has of more than one is
// fetched again, rather than that two are held: what a block runs once a layer had better be short, or it comes from
// memory each time.
__device__ inline void make_activations(const Worker& w, const Inputs& in, float inverse_width, float eps) {
    const uint32_t blocks = super_blocks_of(in.n);
    const bool again = blocks > kMultipliers;
    float x[8], factor_of[8];
    const auto hold_factors = [&](uint32_t sb) {
        if (in.weight == nullptr) return;
        const uint32_t first = sb * kSuperBlock + w.lane;
        const uint32_t left = in.n - min(in.n, first);
#pragma unroll
        for (uint32_t j = 0; j < 8; ++j) factor_of[j] = j * kGroup < left ? in.weight[first + j * kGroup] : 0.0F;
    };
    hold_factors(w.warp);
#pragma unroll 1
    for (uint32_t sb = w.warp; sb < blocks; sb += kMultipliers) {
        fetch_super_block<true>(in, sb, w.lane, x);
        if (in.weight == nullptr) continue;
        const float sum = warp_squares(x);
        if (w.lane == 0) w.block_sum[sb] = sum;
    }
    meet();  // nobody uses the activations before these any more
    bool finite = true;
    const float factor = in.weight != nullptr ? norm_factor(w.block_sum, blocks, inverse_width, eps, finite) : 0.0F;
#pragma unroll 1
    for (uint32_t sb = w.warp; sb < blocks; sb += kMultipliers) {
        if (again) {
            fetch_super_block<false>(in, sb, w.lane, x);
            hold_factors(sb);
        }
        if (in.weight != nullptr) {
#pragma unroll
            for (uint32_t j = 0; j < 8; ++j) x[j] = __fmul_rn(__fmul_rn(x[j], factor), factor_of[j]);
        }
        finite &= keep_super_block(w, in.kind, in.tiles, sb, x);
    }
    w.note(finite, in.code);
    meet();
}

// One warp makes a super-block's activations for all blocks, where there are too many values for every block to make
// all of them. w.q and w.scale have room for one super-block.
__device__ inline void share_super_block(const Worker& w, const Inputs& in, uint32_t sb, uint64_t* words,
                                         uint64_t* scales) {
    float x[8];
    fetch_super_block<false>(in, sb, w.lane, x);  // few warps ask
    w.note(keep_super_block(w, in.kind, in.tiles, 0, x), in.code);
    __syncwarp();
    const uint32_t count = in.kind == ActivationKind::kA16 ? 128 : 64;
    for (uint32_t i = w.lane; i < count; i += 32) publish(words + sb * count + i, w.q[i], in.tag);
    const uint32_t groups = in.kind == ActivationKind::kA32P ? 8 : 1;
    if (w.lane < groups) publish(scales + sb * groups + w.lane, w.scale[w.lane], in.tag);
    __syncwarp();
}

// Activations that others have made.
__device__ inline void take_activations(const Worker& w, const Inputs& in) {
    constexpr uint32_t kWords = 4;  // of a thread, at once
    const uint32_t words = activation_words(in);
    const uint32_t scales = scales_of(in);
    static_assert(kMostCols / kGroup <= kMultiplyThreads);
    // What a warp takes lies together, so that few others have made it.
    for (uint32_t begin = 0; begin < words; begin += kWords * kMultiplyThreads) {
        const uint32_t first = begin + w.warp * kWords * 32 + w.lane;
        uint32_t bits[kWords + 1];
        fetch<true>(
            in.tag,
            [&](uint32_t i) -> const uint64_t* {
                if (i == kWords) return begin == 0 && threadIdx.x < scales ? in.scales + threadIdx.x : nullptr;
                return first + i * 32 < words ? in.from + first + i * 32 : nullptr;
            },
            bits);
        if (begin == 0) {
            meet();  // nobody uses the activations before these any more
            if (threadIdx.x < scales) w.scale[threadIdx.x] = __uint_as_float(bits[kWords]);
        }
#pragma unroll
        for (uint32_t i = 0; i < kWords; ++i) {
            if (first + i * 32 < words) w.q[first + i * 32] = bits[i];
        }
    }
    meet();
}

// A norm's weights, nearer: by the time they are read, the stream of weights has driven them out of the caches.
__device__ inline void prefetch_norm(const float* weight, uint32_t n) {
    constexpr uint32_t kLine = 32;
    for (uint32_t i = threadIdx.x * kLine; i < n; i += kMultiplyThreads * kLine) {
        asm volatile("prefetch.global.L1 [%0];" ::"l"(weight + i));
    }
}

// Rule 3's t of one tile and super-block, without A256's scale; lanes 24 + g return rows g's and g + 8's. The chain
// over groups goes from lane to lane: what lanes make of what did not come from their left neighbour in time, nobody
// reads.
template <WeightType kType>
__device__ float2 multiply_tile(const Worker& w, const uint8_t* weights, const uint8_t* scales, uint32_t sb) {
    constexpr bool kTwoGroups = kGroupsPerLoad<kType> == 2;
    const uint32_t pair = w.lane / 8;
    const uint32_t at = shared_address(weights) + w.place.weights + pair * 2 * tile_bytes(kType);
    const uint32_t q_at = w.place.activations + sb * kSuperBlock;
    int32_t sum[2][2] = {};  // of row g or g + 8, of a group
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        const uint4 q = load_shared(q_at ^ (i * 64 + i / 2 * 16));
        const uint32_t columns[2][2] = {{q.x, q.y}, {q.z, q.w}};
        uint4 tile = load_shared(at ^ i * 16);
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            if (j == 1 && !kTwoGroups) tile = load_shared((at ^ i * 16) + kTileBytes);
            uint32_t a[4];  // rows g and g + 8 of the left half, then of the right
            operand<kType>(tile, kTwoGroups ? j : 0, a);
#pragma unroll
            for (uint32_t k = 0; k < 4; ++k) {
                int32_t& to = sum[k % 2][j];
                to = __dp4a(static_cast<int32_t>(a[k]), static_cast<int32_t>(columns[j][k / 2]), to);
            }
        }
    }
    float f[2][2];
    __half2 d[2];
    float2 s = {1.0F, 1.0F};
    constexpr bool kGroups = kind_of(kType) == ActivationKind::kA32P;
    if constexpr (kGroups) s = *reinterpret_cast<const float2*>(w.scale + sb * 8 + pair * 2);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
        d[i] = *reinterpret_cast<const __half2*>(scales + w.place.scales + i * 128);
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
            f[i][j] = static_cast<float>(sum[i][j]);
            if constexpr (kGroups) f[i][j] = __fmul_rn(f[i][j], j == 0 ? s.x : s.y);
        }
    }
    float acc[2];
#pragma unroll
    for (uint32_t step = 0; step < 4; ++step) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
            const float before = step == 0 ? 0.0F : __shfl_up_sync(kAllLanes, acc[i], 8);
            acc[i] = __fmaf_rn(__high2float(d[i]), f[i][1], __fmaf_rn(__low2float(d[i]), f[i][0], before));
        }
    }
    return {acc[0], acc[1]};
}

// A row's sum over its super-blocks; `parts` is where its parts lie in shared memory.
__device__ inline float join_parts(const Worker& w, ActivationKind kind, uint32_t parts, uint32_t super_blocks) {
    float sum = 0.0F;
    const auto add = [&](float part, float scale) {
        sum = kind == ActivationKind::kA32P ? __fadd_rn(sum, part) : __fmaf_rn(part, scale, sum);
    };
    uint32_t sb = 0;
#pragma unroll 2
    for (; sb + 4 <= super_blocks; sb += 4) {
        const uint4 four = load_shared(parts + sb * sizeof(float));
        const float4 scale = *reinterpret_cast<const float4*>(w.scale + sb);
        add(__uint_as_float(four.x), scale.x);
        add(__uint_as_float(four.y), scale.y);
        add(__uint_as_float(four.z), scale.z);
        add(__uint_as_float(four.w), scale.w);
    }
    if (sb == super_blocks) return sum;
    const uint4 four = load_shared(parts + sb * sizeof(float));
    add(__uint_as_float(four.x), w.scale[sb]);
    if (sb + 1 < super_blocks) add(__uint_as_float(four.y), w.scale[sb + 1]);
    if (sb + 2 < super_blocks) add(__uint_as_float(four.z), w.scale[sb + 2]);
    return sum;
}

// One round: `tiles` tiles as they come out of the rings, kUnits super-blocks a stage. A warp has a super-block of
// every stage of its ring, or of every second or fourth: body(tile among the round's, super-block, stage, its place in
// the stage).
template <uint32_t kUnits, class Body>
__device__ void take_stages(Worker& w, uint32_t tiles, uint32_t super_blocks, const Body& body) {
    static_assert(kRingWarps % kUnits == 0);
    uint32_t tile_stages = (super_blocks + kUnits - 1) / kUnits;
    uint32_t stages = tiles * tile_stages;
    uint32_t i = w.warp % kUnits;  // the warp's place in a stage
    hold(tile_stages);
    hold(stages);
    hold(i);
    const uint32_t ring = w.warp / kRingWarps;
    const uint32_t first = (w.stage + ring) % kRings;
    w.stage += stages;
    static_assert(kRings == 2);
    const uint32_t step_tiles = tile_stages == 1 ? 2 : tile_stages == 2 ? 1 : 0;
    const uint32_t step_parts = tile_stages > 2 ? 2 : 0;
    uint32_t tile = first < tile_stages ? 0 : 1;
    uint32_t part_of_tile = first - tile * tile_stages;
    for (uint32_t s = first; s < stages; s += kRings) {
        const uint8_t* stage = w.ring.wait();
        const uint32_t sb = part_of_tile * kUnits + i;
        const bool mine = s / kRings % (kRingWarps / kUnits) == w.warp % kRingWarps / kUnits;
        if (mine && sb < super_blocks) body(tile, sb, stage, i);
        w.ring.leave();
        tile += step_tiles;
        part_of_tile += step_parts;
        if (part_of_tile >= tile_stages) part_of_tile -= tile_stages, ++tile;
    }
}

// A round of tiles, their parts into `part`.
template <WeightType kType>
__device__ void multiply_tiles(Worker& w, uint32_t tiles, uint32_t super_blocks, float* part) {
    uint32_t stride = row_parts(super_blocks);
    uint32_t lane_part = shared_address(part + w.lane % 8 * stride);
    hold(stride);
    hold(lane_part);
    take_stages<stage_units(8 * tile_bytes(kType))>(
        w, tiles, super_blocks, [&](uint32_t tile, uint32_t sb, const uint8_t* stage, uint32_t i) {
            const uint8_t* scales = stage + kStageWeights + i * kScaleRow * sizeof(uint16_t);
            const float2 t = multiply_tile<kType>(w, stage + i * 8 * tile_bytes(kType), scales, sb);
            if (w.lane < 24) return;
            const uint32_t to = lane_part + (tile * kTileRows * stride + sb) * sizeof(float);
            store_shared(to, t.x);
            store_shared(to + 8 * sizeof(float) * stride, t.y);
        });
}

// The same of records.
template <WeightType kType, ActivationKind kKind>
__device__ void multiply_records(Worker& w, uint32_t tiles, uint32_t super_blocks, float* part) {
    const uint32_t* q = w.q + w.lane / 4 % kDigits<kKind> * 8 + w.lane % 4;
    const uint32_t stride = row_parts(super_blocks);
    take_stages<stage_units(record_size(kType))>(
        w, tiles, super_blocks, [&](uint32_t tile, uint32_t sb, const uint8_t* stage, uint32_t i) {
            const Record<kType>* const record[1] = {reinterpret_cast<const Record<kType>*>(stage) + i};
            const auto columns = [&](uint32_t j, uint32_t) {
                const uint32_t* group = q + (sb * 8 + j) * kDigits<kKind> * 8;
                return uint2{group[0], group[4]};
            };
            Partials<kKind, 1, 1> t;
            multiply<kType, kKind, 1, 1>(record, columns, t);
            if (w.lane % 4 != 0) return;
            float* to = part + (tile * kTileRows + w.lane / 4) * stride + sb;
            to[0] = t[0][0][0];
            to[8 * stride] = t[0][0][kLaneOutputs<kKind> / 2];
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

// All tiles of the block of one phase, in rounds of at most `round_tiles`. All threads call emit(prepare(first tile,
// tiles, part)): what they prepare is ready when the last parts are. matrix_of(first tile, tiles) is the matrix of
// these tiles; it takes so many from `tiles` that they are of one type.
template <StepTypes kTypes, class MatrixOf, class Prepare, class Emit>
__device__ void multiply_phase(Worker& w, uint32_t tiles, uint32_t super_blocks, uint32_t round_tiles,
                               const MatrixOf& matrix_of, const Prepare& prepare, const Emit& emit) {
    for (uint32_t first = 0, count = 0; first < tiles; first += count) {
        count = min(round_tiles, tiles - first);
        const TiledMatrix& matrix = matrix_of(first, count);
        float* part = w.scratch->part[w.round++ % 2];
        if (kTypes == StepTypes::kQ4_0) {
            multiply_tiles<WeightType::kQ4_0>(w, count, super_blocks, part);
        } else if (kTypes == StepTypes::kQ8_0) {
            multiply_tiles<WeightType::kQ8_0>(w, count, super_blocks, part);
        } else if (kTypes == StepTypes::kW16) {
            multiply_records<WeightType::kW16, ActivationKind::kA16>(w, count, super_blocks, part);
        } else if (!in_tiles(matrix)) {
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
        const auto row = prepare(first, count, part);
        meet();
        emit(row);
    }
}

}  // namespace driftwood::compute::cuda
