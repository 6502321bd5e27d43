#include "memory/page_map.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory/region.h"

namespace driftwood::memory {
namespace {

void append(std::vector<PageRange>& ranges, size_t offset, size_t length) {
    if (!ranges.empty() && ranges.back().offset + ranges.back().length == offset) {
        ranges.back().length += length;
    } else {
        ranges.push_back({offset, length});
    }
}

#if defined(__linux__)

constexpr const char* kPageMapPath = "/proc/self/pagemap";

// PAGEMAP_SCAN as linux/fs.h has it since 6.7; the headers that we are built with may be older than the kernel.
struct ScanArguments {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
static_assert(sizeof(ScanArguments) == 96);
struct ScannedRange {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};
constexpr unsigned long kPageMapScan = _IOWR('f', 16, ScanArguments);
constexpr uint64_t kIsFile = 1 << 2;
constexpr uint64_t kIsPresent = 1 << 3;
constexpr uint64_t kIsSwapped = 1 << 4;

class PageMap {
  public:
    PageMap() : fd_(open(kPageMapPath, O_RDONLY | O_CLOEXEC)) {}
    ~PageMap() {
        if (fd_ >= 0) close(fd_);
    }
    PageMap(const PageMap&) = delete;
    PageMap& operator=(const PageMap&) = delete;
    int fd() const { return fd_; }

    // Calls visit(entries, offset in bytes of the first one's page) until every page has been seen.
    template <class Visit>
    Result<void> each(const uint8_t* base, size_t size, const Visit& visit) const {
        if (fd_ < 0) return errno_error("memory.page_map", kPageMapPath);
        std::array<uint64_t, 4096> entries;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by pread
        const size_t pages = size / page_size();
        const size_t first = reinterpret_cast<uintptr_t>(base) / page_size();
        for (size_t page = 0; page < pages;) {
            const size_t want = std::min(entries.size(), pages - page) * sizeof(uint64_t);
            const auto at = static_cast<off_t>((first + page) * sizeof(uint64_t));
            const ssize_t got = pread(fd_, entries.data(), want, at);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return errno_error("memory.page_map", kPageMapPath);
            const size_t read = static_cast<size_t>(got) / sizeof(uint64_t);
            if (read == 0) return error(ErrorCode::kIo, "[memory.page_map] the page map ends before the region does");
            visit(std::span(entries).first(read), page * page_size());
            page += read;
        }
        return {};
    }

  private:
    int fd_;
};

#endif

}  // namespace

#if defined(__linux__)

Result<std::vector<PageRange>> private_pages_by_scan(const uint8_t* base, size_t size) {
    const PageMap map;
    if (map.fd() < 0) return errno_error("memory.page_scan", kPageMapPath);
    std::array<ScannedRange, 512> found;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by the kernel
    const uint64_t start = reinterpret_cast<uintptr_t>(base);
    ScanArguments scan{};
    scan.size = sizeof scan;
    scan.start = start;
    scan.end = start + size;
    scan.vec = reinterpret_cast<uintptr_t>(found.data());
    scan.vec_len = found.size();
    // Not of a file, and present or swapped: without the latter, pages that were swapped out would count as unchanged.
    scan.category_inverted = kIsFile;
    scan.category_mask = kIsFile;
    scan.category_anyof_mask = kIsPresent | kIsSwapped;
    std::vector<PageRange> ranges;
    while (scan.start < scan.end) {
        const int count = ioctl(map.fd(), kPageMapScan, &scan);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            if (errno == ENOTTY || errno == EINVAL || errno == ENOSYS) {
                return error(ErrorCode::kUnsupported, "[memory.page_scan] this kernel has no PAGEMAP_SCAN");
            }
            return errno_error("memory.page_scan", kPageMapPath);
        }
        for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
            append(ranges, found[i].start - start, found[i].end - found[i].start);
        }
        CHECK(scan.walk_end > scan.start);
        scan.start = scan.walk_end;
    }
    return ranges;
}

Result<std::vector<PageRange>> private_pages_by_page_map(const uint8_t* base, size_t size) {
    std::vector<PageRange> ranges;
    DW_TRY(PageMap().each(base, size, [&](std::span<const uint64_t> entries, size_t offset) {
        add_private_pages(entries, offset, page_size(), ranges);
    }));
    return ranges;
}

Result<Footprint> footprint_of(const uint8_t* base, size_t size) {
    Footprint footprint;
    DW_TRY(PageMap().each(base, size, [&](std::span<const uint64_t> entries, size_t) {
        add_footprint(entries, page_size(), footprint);
    }));
    return footprint;
}

#else

Result<std::vector<PageRange>> private_pages_by_scan(const uint8_t*, size_t) {
    return error(ErrorCode::kUnsupported, "[memory.page_scan] only Linux has PAGEMAP_SCAN");
}

Result<std::vector<PageRange>> private_pages_by_page_map(const uint8_t*, size_t) {
    return error(ErrorCode::kUnsupported, "[memory.page_map] only Linux has /proc/self/pagemap");
}

Result<Footprint> footprint_of(const uint8_t*, size_t) {
    return error(ErrorCode::kUnsupported, "[memory.footprint] only Linux has /proc/self/pagemap");
}

#endif

void add_private_pages(std::span<const uint64_t> entries, size_t offset, size_t page_bytes,
                       std::vector<PageRange>& ranges) {
    for (const uint64_t entry : entries) {
        const bool anywhere = (entry & (kPageMapPresent | kPageMapSwapped)) != 0;
        if (anywhere && (entry & kPageMapFileOrShared) == 0) append(ranges, offset, page_bytes);
        offset += page_bytes;
    }
}

void add_footprint(std::span<const uint64_t> entries, size_t page_bytes, Footprint& footprint) {
    for (const uint64_t entry : entries) {
        const bool shared = (entry & kPageMapFileOrShared) != 0;
        if ((entry & kPageMapPresent) != 0) {
            footprint.resident_bytes += page_bytes;
            if (shared) footprint.shared_bytes += page_bytes;
        } else if ((entry & kPageMapSwapped) != 0 && !shared) {
            footprint.swapped_bytes += page_bytes;
        }
    }
}

std::vector<PageRange> different_pages(std::span<const uint8_t> now, std::span<const uint8_t> before,
                                       size_t page_bytes) {
    std::vector<PageRange> ranges;
    const std::vector<uint8_t> zeros(page_bytes, 0);
    for (size_t at = 0; at < now.size(); at += page_bytes) {
        const size_t known = at < before.size() ? std::min(page_bytes, before.size() - at) : 0;
        const bool same = (known == 0 || std::memcmp(now.data() + at, before.data() + at, known) == 0) &&
                          std::memcmp(now.data() + at + known, zeros.data(), page_bytes - known) == 0;
        if (!same) append(ranges, at, page_bytes);
    }
    return ranges;
}

}  // namespace driftwood::memory
