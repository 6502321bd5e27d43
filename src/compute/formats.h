// The formats of numbers in linear layers: which bytes of weights hold which numbers, and the kinds of activations that
// multiply them. Constants and structs only, so that kernels of every
// instruction set and device include this file. All but kW16 and kQ4S are ggml's formats, bit for bit
// (ggml/src/ggml-common.h); `reference/unpack.cc` reads each number by number, docs/numerics.md says what is done with
// them. f16 is written as two bytes, little-endian: blocks in a file need no alignment.
//
// A row of a matrix is a sequence of blocks. Types of 32 values allow rows of any multiple of 32, those of 256
// (K-quants and Q4S) of 256; W16's last block may be short.
#pragma once

#include <cstddef>
#include <cstdint>

namespace driftwood::compute {

enum class WeightType : uint8_t {
    kF32,   // as files have them: engines read embeddings in these three types; products want W16, made from them
    kF16,   //   at load (weights.h)
    kBF16,  //
    kW16,   // 256 values: 16-bit integers with a power of two (ours, in memory only)
    kQ8_0,  // 32 values: d · n, n in −128..127
    kQ4_0,  // 32 values: d · (n − 8), n in 0..15
    kQ4_1,  // 32 values: d · n + m
    kQ5_0,  // 32 values: d · (n − 16), n in 0..31
    kQ5_1,  // 32 values: d · n + m
    kQ4_K,  // 256 values, 8 groups of 32: d · scale · n − dmin · min; scale and min in 0..63, n in 0..15
    kQ5_K,  // the same, n in 0..31
    kQ6_K,  // 256 values, 16 groups of 16: d · scale · (n − 32); scale in −128..127, n in 0..63
    kQ4S,   // 256 values, 8 groups of 32: d · scale · (n − 8); scale and n in 0..15 (ours)
};
inline constexpr uint32_t kWeightTypes = 13;

struct BlockQ8_0 {
    uint8_t d[2];  // f16
    int8_t n[32];
};

struct BlockQ4_0 {
    uint8_t d[2];   // f16
    uint8_t n[16];  // value i in the low bits of n[i], value 16 + i in the high bits
};

struct BlockQ4_1 {
    uint8_t d[2];   // f16
    uint8_t m[2];   // f16
    uint8_t n[16];  // as Q4_0
};

struct BlockQ5_0 {
    uint8_t d[2];     // f16
    uint8_t high[4];  // 32 bits, little-endian: bit i is bit 4 of value i
    uint8_t n[16];    // as Q4_0
};

struct BlockQ5_1 {
    uint8_t d[2];     // f16
    uint8_t m[2];     // f16
    uint8_t high[4];  // as Q5_0
    uint8_t n[16];    // as Q4_0
};

// Scales and minima of Q4_K and Q5_K, 6 bits each, packed into 12 bytes s: for groups 0..3 the low 6 bits of s[j] and
// s[j + 4]; for groups 4..7 the low 4 bits are those of s[j + 4] (scale in its low half, min in its high half) and the
// top 2 bits are the top bits of s[j − 4] (scale) and s[j] (min).
inline constexpr uint32_t kPackedScaleBytes = 12;

struct BlockQ4_K {
    uint8_t d[2];     // f16
    uint8_t dmin[2];  // f16
    uint8_t scales[kPackedScaleBytes];
    uint8_t n[128];  // value i of groups 2p and 2p + 1 in the low and high bits of n[32 p + i]
};

struct BlockQ5_K {
    uint8_t d[2];     // f16
    uint8_t dmin[2];  // f16
    uint8_t scales[kPackedScaleBytes];
    uint8_t high[32];  // bit j of high[i] is bit 4 of value i of group j
    uint8_t n[128];    // as Q4_K
};

// Two halves of 128 values; within a half, value 32 g + i (g in 0..3, i in 0..31) has its low 4 bits in
// low[64 half + 32 (g % 2) + i], in the low bits for g < 2 and in the high bits otherwise, and its top 2 bits in bits
// 2 g and 2 g + 1 of high[32 half + i].
struct BlockQ6_K {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];  // of every 16 values
    uint8_t d[2];       // f16
};

struct BlockQ4S {
    uint8_t d[2];       // f16
    uint8_t scales[4];  // groups 2p and 2p + 1 in the low and high bits of scales[p]
    uint8_t n[128];     // group j as Q4_0 in n[16 j …]
};

// Our own copy of F32, F16 and BF16 weights (docs/numerics.md, rule 2): aligned to 4 bytes, |n| <= kMaxA16.
struct BlockW16 {
    float scale;  // 2^e, e in kMinW16Exponent..kMaxW16Exponent
    int16_t n[256];
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ4S) == 134);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockW16) == 516 && offsetof(BlockW16, n) == 4);

// Values and bytes of a block. A W16 block of k < 256 values has 4 + 2 k bytes.
struct WeightFormat {
    const char* name;
    uint32_t values;
    uint32_t bytes;
};
inline constexpr WeightFormat kWeightFormats[kWeightTypes] = {
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"W16", 256, sizeof(BlockW16)},
    {"Q8_0", 32, sizeof(BlockQ8_0)},
    {"Q4_0", 32, sizeof(BlockQ4_0)},
    {"Q4_1", 32, sizeof(BlockQ4_1)},
    {"Q5_0", 32, sizeof(BlockQ5_0)},
    {"Q5_1", 32, sizeof(BlockQ5_1)},
    {"Q4_K", 256, sizeof(BlockQ4_K)},
    {"Q5_K", 256, sizeof(BlockQ5_K)},
    {"Q6_K", 256, sizeof(BlockQ6_K)},
    {"Q4S", 256, sizeof(BlockQ4S)},
};

// How the input of a linear layer is quantised (docs/numerics.md, rule 2).
enum class ActivationKind : uint8_t {
    kA32P,  // 8 bits, a power of two per 32 values
    kA256,  // 8 bits, a scale per 256 values
    kA16,   // 16 bits as two digits of 8, a power of two per 256 values
};
inline constexpr uint32_t kActivationKinds = 3;

}  // namespace driftwood::compute
