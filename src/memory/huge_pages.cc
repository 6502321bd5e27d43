#include "memory/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <string>
#include <string_view>

namespace driftwood::memory {

namespace {

uintptr_t page_bytes() { return static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)); }

// "7f0000000000-7f0000200000 r--s …": where a mapping begins and ends.
bool read_range(std::string_view line, uintptr_t& begin, uintptr_t& end) {
    const char* const last = line.data() + line.size();
    const auto first = std::from_chars(line.data(), last, begin, 16);
    if (first.ec != std::errc() || first.ptr == last || *first.ptr != '-') return false;
    const auto second = std::from_chars(first.ptr + 1, last, end, 16);
    return second.ec == std::errc() && second.ptr != last && *second.ptr == ' ';
}

}  // namespace

void prefer_huge_pages([[maybe_unused]] const void* at, [[maybe_unused]] size_t size) {
#if defined(__linux__)
    const uintptr_t page = page_bytes();
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(at) + page - 1) / page * page;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(at) + size) / page * page;
    if (size < kHugePage || begin >= end) return;
    static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
#endif
}

bool huge_pages_given() {
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string line;
    return std::getline(file, line) && line.find("[never]") == std::string::npos;
}

uint64_t bytes_in_huge_pages(const void* at, size_t size) {
    const uintptr_t page = page_bytes();
    const auto first = reinterpret_cast<uintptr_t>(at);
    const uintptr_t last = (first + size + page - 1) / page * page;
    uint64_t bytes = 0;
    bool within = false;
    std::ifstream file("/proc/self/smaps");
    for (std::string line; std::getline(file, line);) {
        uintptr_t begin = 0;
        uintptr_t end = 0;
        if (read_range(line, begin, end)) {
            within = begin >= first && end <= last;
            continue;
        }
        if (!within) continue;
        for (const std::string_view key :
             {"AnonHugePages:", "FilePmdMapped:", "ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"}) {
            if (line.starts_with(key)) bytes += std::stoull(line.substr(key.size())) * 1024;
        }
    }
    return bytes;
}

}  // namespace driftwood::memory
