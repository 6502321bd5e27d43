// Rule 2 and the row quantisation of rule 7, for every instruction set.
//
// Written over `Isa`, what an instruction set brings:
//   kLanes, Int, Float             registers of kLanes numbers of 32 bits
//   splat(x), load(x)              Float
//   load_left(x, i, n)             Float, of what is left of n values from i on; +0 in the other lanes
//   rounded(x, factor)             Int, rule 1's round(x · factor)
//   clamped(q)                     Int, to ±kMaxA8
//   low_digit(a), high_digit(a)    Int, a = 256 high + low with -128 <= low < 128
//   store_group(lanes, q, sum)     kGroup numbers, each of which fits into 8 bits, and the sums of both halves
//   store_left(q, i, n, lanes)     as 16-bit numbers, those that are left of n from i on
//   max_magnitude_bits(x, n)       the bits of the largest |x[i]|; more than kInfinityBits when one is NaN
// Each Isa lies in an unnamed namespace, so everything here does too, in effect (see README.md).
#pragma once

#include "compute/constants.h"
#include "compute/cpu/float_bits.h"
#include "compute/kernels.h"

namespace driftwood::compute {
namespace {  // each kernel file gets copies of its own

// What quantises a block: the factor to integers and its scale, both 0 where all of it counts as zero.
struct Factors {
    float to_integer;
    float scale;
};

Factors factors_a32p(uint32_t most) {
    if (most < bits_of(kTiny)) return {0.0F, 0.0F};
    const int32_t e = static_cast<int32_t>(most >> 23) - 127 - 6;  // floor(log2 max) - 6
    return {power_of_two(-e), power_of_two(e)};
}

Factors factors_a16(uint32_t most) {
    if (most < bits_of(kTiny)) return {0.0F, 0.0F};
    int32_t e = static_cast<int32_t>(most >> 23) - 127 - 14;  // floor(log2 max) - 14
    const float largest = float_of(most) * power_of_two(-e) + kRoundMagic;
    if (static_cast<int32_t>(bits_of(largest) - kRoundMagicBits) > kMaxA16) ++e;
    return {power_of_two(-e), power_of_two(e)};
}

// The largest becomes `max`.
Factors factors_up_to(float max, uint32_t most) {
    if (most < bits_of(kTiny)) return {0.0F, 0.0F};
    return {max / float_of(most), float_of(most) / max};
}

template <class Isa>
struct Quantise {
    using Int = typename Isa::Int;
    using Float = typename Isa::Float;
    static constexpr uint32_t kRegisters = kGroup / Isa::kLanes;

    static bool a32p(const float* x, uint32_t n, const ActivationRow& out) {
        return blocks<kGroup>(x, n, out, factors_a32p, [&](uint32_t at, Float to_integer) {
            Int q[kRegisters];
#pragma GCC unroll 8
            for (uint32_t i = 0; i < kRegisters; ++i) q[i] = Isa::clamped(rounded(x + at, i, to_integer));
            Isa::store_group(q, out.high + at, out.high_sum + at / kSumGroup);
        });
    }

    static bool a256(const float* x, uint32_t n, const ActivationRow& out) {
        const auto factors = [](uint32_t most) { return factors_up_to(static_cast<float>(kMaxA8), most); };
        return blocks<kSuperBlock>(x, n, out, factors, [&](uint32_t at, Float to_integer) {
            Int q[kRegisters];
#pragma GCC unroll 8
            for (uint32_t i = 0; i < kRegisters; ++i) q[i] = rounded(x + at, i, to_integer);
            Isa::store_group(q, out.high + at, out.high_sum + at / kSumGroup);
        });
    }

    static bool a16(const float* x, uint32_t n, const ActivationRow& out) {
        return blocks<kSuperBlock>(x, n, out, factors_a16, [&](uint32_t at, Float to_integer) {
            Int high[kRegisters];
            Int low[kRegisters];
#pragma GCC unroll 8
            for (uint32_t i = 0; i < kRegisters; ++i) {
                const Int a = rounded(x + at, i, to_integer);
                high[i] = Isa::high_digit(a);
                low[i] = Isa::low_digit(a);
            }
            Isa::store_group(high, out.high + at, out.high_sum + at / kSumGroup);
            Isa::store_group(low, out.low + at, out.low_sum + at / kSumGroup);
        });
    }

    // Rule 7: a row with one scale.
    static bool row(const float* x, uint32_t n, float max, int16_t* q, float* scale) {
        const uint32_t most = Isa::max_magnitude_bits(x, n);
        const Factors factors = factors_up_to(max, most);
        const Float to_integer = Isa::splat(factors.to_integer);
        for (uint32_t i = 0; i < n; i += Isa::kLanes) {
            Isa::store_left(q, i, n, Isa::rounded(Isa::load_left(x, i, n), to_integer));
        }
        *scale = factors.scale;
        return most < kInfinityBits;
    }

  private:
    static Int rounded(const float* x, uint32_t i, Float to_integer) {
        return Isa::rounded(Isa::load(x + i * Isa::kLanes), to_integer);
    }

    // Blocks of kBlock values, of which only one longer than a group may be short. `store(at, to_integer)` quantises
    // and writes the group from `at` on.
    template <uint32_t kBlock, class FactorsOf, class Store>
    static bool blocks(const float* x, uint32_t n, const ActivationRow& out, FactorsOf factors_of, Store store) {
        uint32_t most_of_all = 0;
        for (uint32_t begin = 0; begin < n; begin += kBlock) {
            const uint32_t count = kBlock > kGroup && n - begin < kBlock ? n - begin : kBlock;
            const uint32_t most = Isa::max_magnitude_bits(x + begin, count);
            most_of_all = most > most_of_all ? most : most_of_all;
            const Factors factors = factors_of(most);
            const Float to_integer = Isa::splat(factors.to_integer);
            for (uint32_t i = 0; i < count; i += kGroup) store(begin + i, to_integer);
            out.scale[begin / kBlock] = factors.scale;
        }
        return most_of_all < kInfinityBits;
    }
};

}  // namespace
}  // namespace driftwood::compute
