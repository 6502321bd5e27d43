// The constants of the numerics contract (docs/numerics.md, rules 1, 2, 6 and 7). Values only: kernels of every
// instruction set include this file.
#pragma once

#include <cstdint>

namespace driftwood::compute {

// Rule 1. Adding 1.5 · 2^23 rounds a float below 2^22 to an integer, in the low bits of the sum.
inline constexpr float kRoundMagic = 12582912.0F;
inline constexpr uint32_t kRoundMagicBits = 0x4B400000U;
inline constexpr float kRoundLimit = 4194304.0F;  // 2^22

// Rule 2. What is smaller than this counts as zero, long before subnormal numbers begin.
inline constexpr float kTiny = 0x1p-60F;
inline constexpr uint32_t kGroup = 32;        // values that share a scale in Q8_0 and A32P
inline constexpr uint32_t kSuperBlock = 256;  // values whose partial sum is added to a row's sum at once
inline constexpr uint32_t kSumGroup = 16;     // values whose sum quantising leaves for the kernels
inline constexpr int32_t kMaxA8 = 127;
inline constexpr int32_t kMaxA16 = 32639;  // 127 · 256 + 127: both digits of such a number fit into 8 bits with sign

// Rule 2, W16: e of a block's scale 2^e. Below, weights would leave the range in which nothing is subnormal (rule 12).
inline constexpr int32_t kMinW16Exponent = -51;
inline constexpr int32_t kMaxW16Exponent = 60;

// Rule 6, EXP: range, argument reduction (log2 e; ln 2 in two parts) and polynomial, highest power first.
inline constexpr float kExpLow = -87.0F;
inline constexpr float kExpHigh = 88.0F;
inline constexpr float kLog2E = 1.44269504F;
inline constexpr float kLn2High = -0.693145751953125F;
inline constexpr float kLn2Low = -1.42860682030941723e-6F;
inline constexpr float kExpPoly[6] = {1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                                      4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F};

// Rule 7, attention.
inline constexpr uint32_t kBlockTokens = 64;  // tokens of a KV block, and keys of a chunk
inline constexpr float kMaxQ16 = 32767.0F;    // R of queries and keys
inline constexpr float kMaxV16 = 4095.0F;     // R of values
inline constexpr float kScoreFloor = -64.0F;  // x below this is as good as invisible
inline constexpr float kExp2Poly[5] = {9.58285066e-3F, 5.59064282e-2F, 2.40240987e-1F, 6.93124193e-1F, 1.0F};
inline constexpr float kWeightScale = 1048576.0F;   // 2^20: probabilities as integers in the denominator
inline constexpr float kFirstMax = -1073741824.0F;  // -2^30: the running maximum before any chunk
inline constexpr uint32_t kMaxHeadDim = 256;

// Rule 9. A KV scale read from a file is 0 or at least this.
inline constexpr float kMinKvScale = 0x1p-76F;

}  // namespace driftwood::compute
