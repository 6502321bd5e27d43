#include "memory/available.h"

#include <fstream>
#include <limits>
#include <string>

namespace driftwood::memory {

uint64_t available_bytes() {
    std::ifstream file("/proc/meminfo");
    for (std::string key; file >> key;) {
        uint64_t kilobytes = 0;
        if (key == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return 0;
}

}  // namespace driftwood::memory
