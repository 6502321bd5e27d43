// Huge pages (2 MiB) under memory that is read or written from one end to the other: with pages of 4 KiB up to a third
// of such a pass goes into looking up addresses. Other systems than Linux have none here, and everything goes on as it
// was. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace driftwood::memory {

inline constexpr size_t kHugePage = size_t{2} << 20;

// Asks for huge pages under the whole pages of [at, at + size), if it is at least a huge page long. Anonymous memory
// gets them where it is touched later; a file's, where its file system has them and the pages are not cached yet.
void prefer_huge_pages(const void* at, size_t size);

// Whether anonymous memory that asks may get them (transparent_hugepage/enabled is not "never").
bool huge_pages_given();

// How many bytes of the mappings that lie within [at, at + size), rounded up to a page, are in huge pages now; 0 where
// the system does not say. Costs a walk over the pages that the process has mapped: milliseconds for a gigabyte.
uint64_t bytes_in_huge_pages(const void* at, size_t size);

}  // namespace driftwood::memory
