#include "compute/reference/unpack.h"

#include "compute/half.h"

namespace driftwood::compute::reference {

namespace {

float half_at(const uint8_t (&bytes)[2]) { return half_to_float(static_cast<uint16_t>(bytes[0] | bytes[1] << 8)); }

// Value i of 32 whose 4 bits lie as in Q4_0.
int32_t nibble(const uint8_t* bytes, uint32_t i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

// Value i of 32 in Q5_0 and Q5_1: 4 bits as above, the fifth from a word.
int32_t five_bits(const uint8_t* bytes, const uint8_t (&high)[4], uint32_t i) {
    return nibble(bytes, i) | (high[i / 8] >> (i % 8) & 1) << 4;
}

// Scales and minima of Q4_K and Q5_K.
void unpack_scales(const uint8_t (&s)[kPackedScaleBytes], SuperBlock& out) {
    for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
        const bool whole = j < 4;
        const int32_t scale = whole ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        out.scale[2 * j] = out.scale[2 * j + 1] = scale;
        out.min[j] = whole ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

// The low 4 bits of value i in Q4_K and Q5_K.
int32_t low_bits(const uint8_t (&n)[128], uint32_t i) {
    const uint32_t group = i / kGroup;
    const uint8_t byte = n[group / 2 * kGroup + i % kGroup];
    return group % 2 == 0 ? byte & 15 : byte >> 4;
}

}  // namespace

Group unpack(const BlockQ8_0& block) {
    Group out{.d = half_at(block.d), .m = 0.0F, .n = {}};
    for (uint32_t i = 0; i < kGroup; ++i) out.n[i] = int32_t{block.n[i]};
    return out;
}

Group unpack(const BlockQ4_0& block) {
    Group out{.d = half_at(block.d), .m = 0.0F, .n = {}};
    for (uint32_t i = 0; i < kGroup; ++i) out.n[i] = nibble(block.n, i) - 8;
    return out;
}

Group unpack(const BlockQ4_1& block) {
    Group out{.d = half_at(block.d), .m = half_at(block.m), .n = {}};
    for (uint32_t i = 0; i < kGroup; ++i) out.n[i] = nibble(block.n, i);
    return out;
}

Group unpack(const BlockQ5_0& block) {
    Group out{.d = half_at(block.d), .m = 0.0F, .n = {}};
    for (uint32_t i = 0; i < kGroup; ++i) out.n[i] = five_bits(block.n, block.high, i) - 16;
    return out;
}

Group unpack(const BlockQ5_1& block) {
    Group out{.d = half_at(block.d), .m = half_at(block.m), .n = {}};
    for (uint32_t i = 0; i < kGroup; ++i) out.n[i] = five_bits(block.n, block.high, i);
    return out;
}

SuperBlock unpack(const BlockQ4_K& block) {
    SuperBlock out{.d = half_at(block.d), .dmin = half_at(block.dmin), .scale = {}, .min = {}, .n = {}};
    unpack_scales(block.scales, out);
    for (uint32_t i = 0; i < kSuperBlock; ++i) out.n[i] = low_bits(block.n, i);
    return out;
}

SuperBlock unpack(const BlockQ5_K& block) {
    SuperBlock out{.d = half_at(block.d), .dmin = half_at(block.dmin), .scale = {}, .min = {}, .n = {}};
    unpack_scales(block.scales, out);
    for (uint32_t i = 0; i < kSuperBlock; ++i) {
        out.n[i] = low_bits(block.n, i) | (block.high[i % kGroup] >> (i / kGroup) & 1) << 4;
    }
    return out;
}

SuperBlock unpack(const BlockQ6_K& block) {
    SuperBlock out{.d = half_at(block.d), .dmin = 0.0F, .scale = {}, .min = {}, .n = {}};
    for (uint32_t i = 0; i < kSuperBlock / 16; ++i) out.scale[i] = int32_t{block.scales[i]};
    for (uint32_t i = 0; i < kSuperBlock; ++i) {
        const uint32_t half = i / 128;
        const uint32_t g = i % 128 / kGroup;
        const uint8_t low = block.low[64 * half + kGroup * (g % 2) + i % kGroup];
        const int32_t high = block.high[kGroup * half + i % kGroup] >> (2 * g) & 3;
        out.n[i] = ((g < 2 ? low & 15 : low >> 4) | high << 4) - 32;
    }
    return out;
}

SuperBlock unpack(const BlockQ4S& block) {
    SuperBlock out{.d = half_at(block.d), .dmin = 0.0F, .scale = {}, .min = {}, .n = {}};
    for (uint32_t j = 0; j < kGroupsPerSuperBlock; ++j) {
        const uint8_t both = block.scales[j / 2];
        out.scale[2 * j] = out.scale[2 * j + 1] = j % 2 == 0 ? both & 15 : both >> 4;
        for (uint32_t i = 0; i < kGroup; ++i) out.n[kGroup * j + i] = nibble(block.n + size_t{16} * j, i) - 8;
    }
    return out;
}

}  // namespace driftwood::compute::reference
