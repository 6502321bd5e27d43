// Weights of a few rows of a matrix, a row per lane, for every instruction set: of each group of 32 values, 8 registers
// of bytes, of which register w holds values 4 w..4 w + 3 of every row. Bytes are the signed weights, or (kSignedBytes
// is false) the block's numbers without sign, from which the format's kOffset is still to be taken; Q8_0 always has
// signs.
//
// Written over `Isa`, what an instruction set brings:
//   kRows           lanes of 32 bits in a register
//   kSignedBytes    whether its products take signed weights
//   Int, Float      registers of kRows numbers of 32 bits
//   load_words(rows, at, out)   16 bytes of each row, transposed: out[d] has word d of every row
//   load_word(rows, at)         4 bytes of each row
//   set(x), both(a, b), either(a, b), add(a, b), multiply(a, b), subtract_bytes(a, b)     Int
//   right(a, n), left(a, n), right_signed(a, n)                                           Int, 32-bit shifts
//   low_half(a)                 Float, of the f16 in the low half of each word
// Each Isa lies in an unnamed namespace, so everything here does too, in effect (see README.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/formats.h"

namespace driftwood::compute {

inline constexpr uint32_t kGroupWords = kGroup / 4;
inline constexpr uint32_t kBlockGroups = kSuperBlock / kGroup;

namespace {  // each kernel file gets copies of its own

// Where the rows lie. Rows past the end repeat the last one.
template <class Isa>
struct RowsOf {
    const uint8_t* row[Isa::kRows];

    RowsOf(const uint8_t* weights, size_t row_bytes, uint32_t first, uint32_t count) {
        for (uint32_t i = 0; i < Isa::kRows; ++i) row[i] = weights + (first + (i < count ? i : count - 1)) * row_bytes;
    }
};

// One group of 32 values with a float scale.
template <class Isa>
struct GroupOf {
    typename Isa::Int words[kGroupWords];
    typename Isa::Float d;
    typename Isa::Float m;  // of types with minima
};

// 256 values in kParts parts, each with an integer scale.
template <class Isa, uint32_t kParts>
struct SuperBlockOf {
    typename Isa::Int words[kSuperBlock / 4];
    typename Isa::Int scale[kParts];
    typename Isa::Int min[kBlockGroups];  // of types with minima
    typename Isa::Float d;
    typename Isa::Float dmin;
};

// Bit patterns of formats.h, over the registers of Isa.
template <class Isa>
struct Bits {
    using Int = typename Isa::Int;
    using Rows = RowsOf<Isa>;

    static Int low_bits(Int x, int32_t mask) { return Isa::both(x, Isa::set(mask)); }
    static Int low_nibbles(Int x) { return low_bits(x, 0x0F0F0F0F); }
    static Int high_nibbles(Int x) { return low_nibbles(Isa::right(x, 4)); }
    static auto high_half(Int x) { return Isa::low_half(Isa::right(x, 16)); }

    static void load_32_bytes(const Rows& rows, size_t at, Int out[kGroupWords]) {
        Isa::load_words(rows, at, out);
        Isa::load_words(rows, at + 16, out + 4);
    }

    // 16 bytes per row whose low bits are the first 16 values and whose high bits the last 16.
    static void load_nibbles(const Rows& rows, size_t at, Int out[kGroupWords]) {
        Int packed[4];
        Isa::load_words(rows, at, packed);
        for (uint32_t d = 0; d < 4; ++d) {
            out[d] = low_nibbles(packed[d]);
            out[d + 4] = high_nibbles(packed[d]);
        }
    }

    // Groups 2p and 2p + 1 in the low and high bits of the same 32 bytes, `at` + 32 p.
    static void load_nibble_pairs(const Rows& rows, size_t at, Int* words) {
        for (size_t p = 0; p < 4; ++p) {
            Int packed[kGroupWords];
            load_32_bytes(rows, at + p * kGroup, packed);
            for (uint32_t w = 0; w < kGroupWords; ++w) {
                words[2 * p * kGroupWords + w] = low_nibbles(packed[w]);
                words[(2 * p + 1) * kGroupWords + w] = high_nibbles(packed[w]);
            }
        }
    }

    // Adds 16 to the values of 32 whose bit is set in a word per row.
    static void add_fifth_bits(Int bits, Int out[kGroupWords]) {
        for (uint32_t w = 0; w < kGroupWords; ++w) {
            // Bit k of four goes to bit 0 of byte k: the factor's bits are 7 apart.
            const Int four = low_bits(Isa::right(bits, 4 * w), 15);
            const Int spread = low_bits(Isa::multiply(four, Isa::set(0x00204081)), 0x01010101);
            out[w] = Isa::either(out[w], Isa::left(spread, 4));
        }
    }

    static void subtract(int32_t offset, Int* words, uint32_t count) {
        if constexpr (Isa::kSignedBytes) {
            for (uint32_t w = 0; w < count; ++w) {
                words[w] = Isa::subtract_bytes(words[w], Isa::set(offset * 0x01010101));
            }
        }
    }

    // Scales and minima of Q4_K and Q5_K, 12 bytes per row.
    static void load_scales(const Rows& rows, size_t at, Int scale[8], Int min[8]) {
        const Int s0 = Isa::load_word(rows, at);
        const Int s1 = Isa::load_word(rows, at + 4);
        const Int s2 = Isa::load_word(rows, at + 8);
        for (uint32_t j = 0; j < 4; ++j) {
            const uint32_t byte = 8 * j;
            scale[j] = low_bits(Isa::right(s0, byte), 63);
            min[j] = low_bits(Isa::right(s1, byte), 63);
            const Int scale_top = Isa::left(low_bits(Isa::right(s0, byte + 6), 3), 4);
            const Int min_top = Isa::left(low_bits(Isa::right(s1, byte + 6), 3), 4);
            scale[j + 4] = Isa::either(low_bits(Isa::right(s2, byte), 15), scale_top);
            min[j + 4] = Isa::either(low_bits(Isa::right(s2, byte + 4), 15), min_top);
        }
    }
};

// ---- formats: what a block of one type is. kOffset is taken from its numbers, of which kMax is the largest.

template <WeightType kType>
struct Format;

template <>
struct Format<WeightType::kQ8_0> {
    static constexpr int32_t kOffset = 0;
    static constexpr int32_t kMax = 128;
    static constexpr bool kHasMin = false;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, GroupOf<Isa>& out) {
        const size_t at = index * sizeof(BlockQ8_0);
        Bits<Isa>::load_32_bytes(rows, at + offsetof(BlockQ8_0, n), out.words);
        out.d = Isa::low_half(Isa::load_word(rows, at));
    }
};

template <>
struct Format<WeightType::kQ4_0> {
    static constexpr int32_t kOffset = 8;
    static constexpr int32_t kMax = 15;
    static constexpr bool kHasMin = false;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, GroupOf<Isa>& out) {
        const size_t at = index * sizeof(BlockQ4_0);
        Bits<Isa>::load_nibbles(rows, at + offsetof(BlockQ4_0, n), out.words);
        Bits<Isa>::subtract(kOffset, out.words, kGroupWords);
        out.d = Isa::low_half(Isa::load_word(rows, at));
    }
};

template <>
struct Format<WeightType::kQ4_1> {
    static constexpr int32_t kOffset = 0;
    static constexpr int32_t kMax = 15;
    static constexpr bool kHasMin = true;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, GroupOf<Isa>& out) {
        const size_t at = index * sizeof(BlockQ4_1);
        Bits<Isa>::load_nibbles(rows, at + offsetof(BlockQ4_1, n), out.words);
        const auto halves = Isa::load_word(rows, at);
        out.d = Isa::low_half(halves);
        out.m = Bits<Isa>::high_half(halves);
    }
};

template <>
struct Format<WeightType::kQ5_0> {
    static constexpr int32_t kOffset = 16;
    static constexpr int32_t kMax = 31;
    static constexpr bool kHasMin = false;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, GroupOf<Isa>& out) {
        const size_t at = index * sizeof(BlockQ5_0);
        Bits<Isa>::load_nibbles(rows, at + offsetof(BlockQ5_0, n), out.words);
        Bits<Isa>::add_fifth_bits(Isa::load_word(rows, at + offsetof(BlockQ5_0, high)), out.words);
        Bits<Isa>::subtract(kOffset, out.words, kGroupWords);
        out.d = Isa::low_half(Isa::load_word(rows, at));
    }
};

template <>
struct Format<WeightType::kQ5_1> {
    static constexpr int32_t kOffset = 0;
    static constexpr int32_t kMax = 31;
    static constexpr bool kHasMin = true;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, GroupOf<Isa>& out) {
        const size_t at = index * sizeof(BlockQ5_1);
        Bits<Isa>::load_nibbles(rows, at + offsetof(BlockQ5_1, n), out.words);
        Bits<Isa>::add_fifth_bits(Isa::load_word(rows, at + offsetof(BlockQ5_1, high)), out.words);
        const auto halves = Isa::load_word(rows, at);
        out.d = Isa::low_half(halves);
        out.m = Bits<Isa>::high_half(halves);
    }
};

template <>
struct Format<WeightType::kQ4_K> {
    static constexpr int32_t kOffset = 0;
    static constexpr int32_t kMax = 15;
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = true;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, SuperBlockOf<Isa, kParts>& out) {
        const size_t at = index * sizeof(BlockQ4_K);
        Bits<Isa>::load_nibble_pairs(rows, at + offsetof(BlockQ4_K, n), out.words);
        Bits<Isa>::load_scales(rows, at + offsetof(BlockQ4_K, scales), out.scale, out.min);
        const auto halves = Isa::load_word(rows, at);
        out.d = Isa::low_half(halves);
        out.dmin = Bits<Isa>::high_half(halves);
    }
};

template <>
struct Format<WeightType::kQ5_K> {
    static constexpr int32_t kOffset = 0;
    static constexpr int32_t kMax = 31;
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = true;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, SuperBlockOf<Isa, kParts>& out) {
        const size_t at = index * sizeof(BlockQ5_K);
        Bits<Isa>::load_nibble_pairs(rows, at + offsetof(BlockQ5_K, n), out.words);
        typename Isa::Int high[kGroupWords];
        Bits<Isa>::load_32_bytes(rows, at + offsetof(BlockQ5_K, high), high);
        for (uint32_t i = 0; i < kSuperBlock / 4; ++i) {
            const auto bit = Bits<Isa>::low_bits(Isa::right(high[i % kGroupWords], i / kGroupWords), 0x01010101);
            out.words[i] = Isa::either(out.words[i], Isa::left(bit, 4));
        }
        Bits<Isa>::load_scales(rows, at + offsetof(BlockQ5_K, scales), out.scale, out.min);
        const auto halves = Isa::load_word(rows, at);
        out.d = Isa::low_half(halves);
        out.dmin = Bits<Isa>::high_half(halves);
    }
};

template <>
struct Format<WeightType::kQ6_K> {
    static constexpr int32_t kOffset = 32;
    static constexpr int32_t kMax = 63;
    static constexpr uint32_t kParts = 16;
    static constexpr bool kHasMin = false;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, SuperBlockOf<Isa, kParts>& out) {
        const size_t at = index * sizeof(BlockQ6_K);
        for (size_t half = 0; half < 2; ++half) {
            typename Isa::Int low[2 * kGroupWords];
            typename Isa::Int high[kGroupWords];
            Bits<Isa>::load_32_bytes(rows, at + offsetof(BlockQ6_K, low) + 64 * half, low);
            Bits<Isa>::load_32_bytes(rows, at + offsetof(BlockQ6_K, low) + 64 * half + 32, low + kGroupWords);
            Bits<Isa>::load_32_bytes(rows, at + offsetof(BlockQ6_K, high) + 32 * half, high);
            for (uint32_t i = 0; i < 4 * kGroupWords; ++i) {
                const uint32_t g = i / kGroupWords;
                const auto packed = low[i % (2 * kGroupWords)];
                const auto bits = Bits<Isa>::low_bits(Isa::right(high[i % kGroupWords], 2 * g), 0x03030303);
                const auto nibbles = g < 2 ? Bits<Isa>::low_nibbles(packed) : Bits<Isa>::high_nibbles(packed);
                out.words[half * 4 * kGroupWords + i] = Isa::either(nibbles, Isa::left(bits, 4));
            }
        }
        Bits<Isa>::subtract(kOffset, out.words, kSuperBlock / 4);
        for (uint32_t i = 0; i < kParts; ++i) {
            const auto four = Isa::load_word(rows, at + offsetof(BlockQ6_K, scales) + i / 4 * 4);
            out.scale[i] = Isa::right_signed(Isa::left(four, 24 - 8 * (i % 4)), 24);
        }
        // d stands at the end: the word that ends with it.
        out.d = Bits<Isa>::high_half(Isa::load_word(rows, at + offsetof(BlockQ6_K, d) - 2));
    }
};

template <>
struct Format<WeightType::kQ4S> {
    static constexpr int32_t kOffset = 8;
    static constexpr int32_t kMax = 15;
    static constexpr uint32_t kParts = 8;
    static constexpr bool kHasMin = false;
    template <class Isa>
    static void load(const RowsOf<Isa>& rows, size_t index, SuperBlockOf<Isa, kParts>& out) {
        const size_t at = index * sizeof(BlockQ4S);
        const auto scales = Isa::load_word(rows, at + offsetof(BlockQ4S, scales));
        for (uint32_t j = 0; j < kBlockGroups; ++j) {
            Bits<Isa>::load_nibbles(rows, at + offsetof(BlockQ4S, n) + size_t{16} * j, out.words + j * kGroupWords);
            out.scale[j] = Bits<Isa>::low_bits(Isa::right(scales, 4 * j), 15);
        }
        Bits<Isa>::subtract(kOffset, out.words, kSuperBlock / 4);
        out.d = Isa::low_half(Isa::load_word(rows, at));
    }
};

}  // namespace
}  // namespace driftwood::compute
