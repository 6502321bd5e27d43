// Words for parts of a Region: plain values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace driftwood::memory {

// [offset, offset + length) of a Region, in bytes, both multiples of page_size().
struct PageRange {
    size_t offset = 0;
    size_t length = 0;
    bool operator==(const PageRange&) const = default;
};

// Where the bytes of a Region are.
struct Footprint {
    size_t resident_bytes = 0;  // in this process's page table
    size_t shared_bytes = 0;    // of these, pages of a file or of shared memory: they cost no memory of their own
    size_t swapped_bytes = 0;   // this process's own pages that the system has moved to swap
};

// How to find the pages that changed. All are right; they differ in cost and in where they work.
enum class ChangeProbe : uint8_t {
    kBest,     // the first of the following that works here
    kScan,     // ioctl PAGEMAP_SCAN: Linux 6.7 and later; 33 µs for 64 MB of 4 KiB pages
    kPageMap,  // /proc/self/pagemap: any Linux; 120 µs for 64 MB
    kCompare,  // reads and compares every byte; anywhere
};

}  // namespace driftwood::memory
