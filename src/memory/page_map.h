// What the kernel says about the pages of a range: which are private to this process, how many are resident. For this
// folder only. Errors: kUnsupported where this system does not say, kIo where it should and does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/page_range.h"

namespace driftwood::memory {

// The pages of [base, base + size) that are this process's own: written since they were mapped, wherever they are now
// (in memory or in swap). Ranges ascend and do not touch. Both give the same answer.
Result<std::vector<PageRange>> private_pages_by_scan(const uint8_t* base, size_t size);      // Linux 6.7 and later
Result<std::vector<PageRange>> private_pages_by_page_map(const uint8_t* base, size_t size);  // any Linux

// The pages of `now` that differ from `before`, which counts as zeros behind its end. Reads every byte, on any system.
std::vector<PageRange> different_pages(std::span<const uint8_t> now, std::span<const uint8_t> before,
                                       size_t page_bytes);

Result<Footprint> footprint_of(const uint8_t* base, size_t size);

// What entries of /proc/self/pagemap say (Documentation/admin-guide/mm/pagemap.rst), one for each page of `page_bytes`
// from `offset` on.
inline constexpr uint64_t kPageMapPresent = uint64_t{1} << 63;
inline constexpr uint64_t kPageMapSwapped = uint64_t{1} << 62;
inline constexpr uint64_t kPageMapFileOrShared = uint64_t{1} << 61;
void add_private_pages(std::span<const uint64_t> entries, size_t offset, size_t page_bytes,
                       std::vector<PageRange>& ranges);
// Of `per_page` entries each, one: a page is present or swapped where any part of it is, and the process's own where
// any part is. Works in place, and gives back the part of `entries` that it filled.
std::span<const uint64_t> join_entries(std::span<uint64_t> entries, size_t per_page);
void add_footprint(std::span<const uint64_t> entries, size_t page_bytes, Footprint& footprint);

}  // namespace driftwood::memory
