#include "memory/available.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace driftwood::memory {

namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// How the two versions of control groups call the same things.
struct GroupFiles {
    const char* limit;
    const char* usage;
    const char* inactive_cache;  // in memory.stat, the groups below included
    const char* active_cache;
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                  "total_active_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

// nullopt where there is no such file, or no number in it ("max").
std::optional<uint64_t> number_in(const std::string& path) {
    uint64_t number = 0;
    std::ifstream file(path);
    return file >> number ? std::optional(number) : std::nullopt;
}

uint64_t left_in(const std::string& directory, const GroupFiles& files) {
    auto limit = number_in(directory + "/" + files.limit);
    // Version 2 slows a group down beyond this one, for as long as it gives nothing back.
    if (const auto high = number_in(directory + "/memory.high")) limit = std::min(limit.value_or(kNoLimit), *high);
    const auto usage = number_in(directory + "/" + files.usage);
    if (!limit || !usage) return kNoLimit;
    uint64_t cache = 0;
    std::ifstream stat(directory + "/memory.stat");
    uint64_t number = 0;
    for (std::string key; stat >> key >> number;) {
        if (key == files.inactive_cache || key == files.active_cache) cache += number;
    }
    const uint64_t used = *usage - std::min(*usage, cache);
    return *limit - std::min(*limit, used);
}

// The group and all above it. A container that sees a group's path but not its directory sees the limit at the root.
uint64_t left_up_to(const std::string& root, std::string path, const GroupFiles& files) {
    uint64_t left = left_in(root, files);
    while (path.size() > 1) {
        left = std::min(left, left_in(root + path, files));
        path.resize(path.rfind('/'));
    }
    return left;
}

}  // namespace

uint64_t group_available_bytes(const std::string& groups, const std::string& root) {
    uint64_t left = kNoLimit;
    std::istringstream lines(groups);
    for (std::string line; std::getline(lines, line);) {
        // "4:memory:/path" (version 1, one line for each controller), "0::/path" (version 2)
        const size_t first = line.find(':');
        const size_t second = line.find(':', first == std::string::npos ? first : first + 1);
        if (second == std::string::npos || line.find('/', second) != second + 1) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const std::string path = line.substr(second + 1);
        if (controllers == ",,") left = std::min(left, left_up_to(root, path, kVersion2));
        if (controllers.find(",memory,") != std::string::npos) {
            left = std::min(left, left_up_to(root + "/memory", path, kVersion1));
        }
    }
    return left;
}

uint64_t available_bytes() {
    std::ifstream file("/proc/meminfo");
    for (std::string key; file >> key;) {
        uint64_t kilobytes = 0;
        if (key == "MemAvailable:" && file >> kilobytes) {
            std::ostringstream groups;
            groups << std::ifstream("/proc/self/cgroup").rdbuf();
            const uint64_t left = std::min(kilobytes * 1024, group_available_bytes(groups.str(), "/sys/fs/cgroup"));
            return std::max<uint64_t>(1, left);  // 0 would say that nobody knows
        }
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return 0;
}

}  // namespace driftwood::memory
