// For tests: what this process holds, and what a piece of work leaves behind each time.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

#if defined(__SANITIZE_ADDRESS__)
extern "C" size_t
__sanitizer_get_current_allocated_bytes();  // of its allocator_interface.h, which GCC does not install
#elif defined(__GLIBC__)
#include <malloc.h>
#endif

namespace driftwood::wasm {

struct Held {
    int64_t mappings = 0;
    int64_t descriptors = 0;
    int64_t heap_bytes = 0;      // allocated and not freed; not what an allocator keeps for later
    int64_t resident_bytes = 0;  // with what it keeps: under AddressSanitizer all that was freed, for a while
};

inline int64_t heap_bytes() {
#if defined(__SANITIZE_ADDRESS__)
    return static_cast<int64_t>(__sanitizer_get_current_allocated_bytes());
#elif defined(__GLIBC__)
    const struct mallinfo2 info = mallinfo2();
    return static_cast<int64_t>(info.uordblks + info.hblkhd);
#else
    return 0;
#endif
}

inline int64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    int64_t all = 0, resident = 0;
    file >> all >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

inline Held held() {
    std::ifstream maps("/proc/self/maps");
    return {.mappings = std::count(std::istreambuf_iterator<char>(maps), {}, '\n'),
            .descriptors = std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}),
            .heap_bytes = heap_bytes(),
            .resident_bytes = resident_bytes()};
}

// What every one of `rounds` runs of `work` left behind, at least. A leak does so each time; what allocators, threads
// and caches take for good they take once, in whichever round.
template <class Work>
Held left_by_each(int rounds, const Work& work) {
    constexpr int64_t kMost = INT64_MAX;
    Held least{kMost, kMost, kMost, kMost};
    for (int round = 0; round < rounds; ++round) {
        const Held before = held();
        work();
        const Held after = held();
        least.mappings = std::min(least.mappings, after.mappings - before.mappings);
        least.descriptors = std::min(least.descriptors, after.descriptors - before.descriptors);
        least.heap_bytes = std::min(least.heap_bytes, after.heap_bytes - before.heap_bytes);
        least.resident_bytes = std::min(least.resident_bytes, after.resident_bytes - before.resident_bytes);
    }
    return least;
}

}  // namespace driftwood::wasm
