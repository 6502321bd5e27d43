// What the system says about its memory.
#pragma once

#include <cstdint>

namespace driftwood::memory {

// What can be taken without swapping (Linux: MemAvailable); 0 where the system does not say.
uint64_t available_bytes();

}  // namespace driftwood::memory
