// What the system says about this process's memory and about its own. Linux; elsewhere nothing is known.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace driftwood::cli {

struct ProcessMemory {
    uint64_t resident_bytes = 0;      // pages in the page table (smaps_rollup: Rss)
    uint64_t proportional_bytes = 0;  // shared pages counted by their share (Pss)
    uint64_t mappings = 0;            // lines of /proc/self/maps
};

// kUnsupported where the system does not say.
Result<ProcessMemory> process_memory();

}  // namespace driftwood::cli
