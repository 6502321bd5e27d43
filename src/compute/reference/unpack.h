// Blocks of weights, number by number (formats.h): what each format's bytes say, in the form in which docs/numerics.md
// speaks of them. For the reference's products and embeddings, and for whoever is in no hurry.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/formats.h"

namespace driftwood::compute::reference {

inline constexpr uint32_t kGroupsPerSuperBlock = kSuperBlock / kGroup;

// 32 values: value i is d · n[i] + m.
struct Group {
    float d;
    float m;  // 0 for types without minima
    int32_t n[kGroup];
};

Group unpack(const BlockQ8_0& block);
Group unpack(const BlockQ4_0& block);
Group unpack(const BlockQ4_1& block);
Group unpack(const BlockQ5_0& block);
Group unpack(const BlockQ5_1& block);

// 256 values: value i is d · scale[i / 16] · n[i] − dmin · min[i / 32].
struct SuperBlock {
    float d;
    float dmin;                         // 0 for types without minima
    int32_t scale[kSuperBlock / 16];    // of every 16 values; where a scale serves 32, it stands here twice
    int32_t min[kGroupsPerSuperBlock];  // of every 32 values
    int32_t n[kSuperBlock];
};

SuperBlock unpack(const BlockQ4_K& block);
SuperBlock unpack(const BlockQ5_K& block);
SuperBlock unpack(const BlockQ6_K& block);
SuperBlock unpack(const BlockQ4S& block);

}  // namespace driftwood::compute::reference
