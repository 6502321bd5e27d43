// The counter-based random generator of the numerics contract: Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel
// random numbers: as easy as 1, 2, 3", SC'11). A value is a pure function of (key, counter), so a frozen sampler or
// actor needs to keep two integers and nothing else.
#pragma once

#include <array>
#include <cstdint>

namespace driftwood {

// Four random 32-bit words for this key and counter; `stream` separates uses of one seed.
std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter, uint64_t stream = 0);

}  // namespace driftwood
