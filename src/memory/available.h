// What the system says about its memory.
#pragma once

#include <cstdint>
#include <string>

namespace driftwood::memory {

// What can be taken without swapping, and without exceeding the limit of a control group that this process is in, such
// as a container's (Linux: MemAvailable, memory.max); 0 where the system does not say.
uint64_t available_bytes();

// What a process with these groups (the text of /proc/self/cgroup) may still take before a limit of theirs or of a
// group above them ends it; UINT64_MAX where there is none. Cached files count as free, for they make room. `root` is
// where the groups are mounted: /sys/fs/cgroup.
uint64_t group_available_bytes(const std::string& groups, const std::string& root);

}  // namespace driftwood::memory
