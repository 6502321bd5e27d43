#include "cli/process_memory.h"

#include <fstream>
#include <sstream>
#include <string>

namespace driftwood::cli {
namespace {

// The number of kB on the line that begins with `key`, in bytes; 0 without such a line.
uint64_t bytes_of(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(key)) continue;
        uint64_t kilobytes = 0;
        std::istringstream(line.substr(key.size())) >> kilobytes;
        return kilobytes * 1024;
    }
    return 0;
}

}  // namespace

Result<ProcessMemory> process_memory() {
    const std::string rollup = "/proc/self/smaps_rollup";
    ProcessMemory memory{
        .resident_bytes = bytes_of(rollup, "Rss:"), .proportional_bytes = bytes_of(rollup, "Pss:"), .mappings = 0};
    if (memory.resident_bytes == 0) return error(ErrorCode::kUnsupported, "[chain.memory] " + rollup + ": no Rss");
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) ++memory.mappings;
    return memory;
}

}  // namespace driftwood::cli
