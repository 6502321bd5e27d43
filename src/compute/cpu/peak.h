// What a machine gives at best, measured: the yardsticks that an engine's speed is held to. Threads: any; each call
// starts and ends its own.
#pragma once

#include <cstdint>
#include <string_view>

namespace driftwood::compute {

// Bytes per second that this many threads read together from memory far larger than any cache: the best of some tries,
// because other programs only make it slower.
double measure_read_bandwidth(uint32_t threads);

// Multiply-adds of 8-bit integers per second, exact sums in 32 bits, that this many threads reach with nothing to load:
// by the best instruction that the engine of this name uses. 0 where there is no such measurement.
double measure_multiply_adds(std::string_view engine, uint32_t threads);

}  // namespace driftwood::compute
