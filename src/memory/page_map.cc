#include "memory/page_map.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
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
constexpr size_t kSmallestPage = 4096;

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

// Reads the entries of [base, base + size), each of `entry_bytes` bytes, and calls visit(entries, offset in bytes of
// the first one's page), one entry for each page of ours, until every page has been seen.
template <class Visit>
Result<void> each_entry(int fd, size_t entry_bytes, const uint8_t* base, size_t size, const Visit& visit) {
    std::array<uint64_t, 4096> entries;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by pread
    const size_t per_page = page_size() / entry_bytes;
    const size_t pages = size / page_size();
    const size_t first = reinterpret_cast<uintptr_t>(base) / entry_bytes;
    for (size_t page = 0; page < pages;) {
        const size_t want = std::min(entries.size() / per_page, pages - page) * per_page * sizeof(uint64_t);
        const auto at = static_cast<off_t>((first + page * per_page) * sizeof(uint64_t));
        const ssize_t got = pread(fd, entries.data(), want, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_error("memory.page_map", kPageMapPath);
        const size_t read = static_cast<size_t>(got) / sizeof(uint64_t) / per_page;
        if (read == 0) return error(ErrorCode::kIo, "[memory.page_map] the page map ends before the region does");
        visit(join_entries(std::span(entries).first(read * per_page), per_page), page * page_size());
        page += read;
    }
    return {};
}

// Whether entries of `entry_bytes` bytes say of pages that are known what is known.
bool fits(int fd, size_t entry_bytes, std::span<const uint8_t> pages, const std::vector<PageRange>& written) {
    std::vector<PageRange> own;
    const auto read = each_entry(fd, entry_bytes, pages.data(), pages.size(), [&](auto entries, size_t offset) {
        add_private_pages(entries, offset, page_size(), own);
    });
    return read.ok() && own == written;
}

// How many bytes an entry of the page map stands for, tried out: page_size(), but for a process under an emulator that
// shows it larger pages than its kernel has and hands it that kernel's page map (qemu-user -p). nullopt where the map
// says nothing that fits, as where the kernel's pages are the larger ones.
std::optional<size_t> find_entry_bytes(int fd) {
    const size_t page = page_size();
    const size_t size = 8 * page;
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return std::nullopt;
    const std::span bytes(static_cast<uint8_t*>(at), size);
#if defined(MADV_NOHUGEPAGE)
    madvise(at, size, MADV_NOHUGEPAGE);  // a huge page would make neighbours present
#endif
    for (const size_t written : {1, 2, 5}) *const_cast<volatile uint8_t*>(&bytes[written * page]) = 1;
    size_t entry = page;
    while (entry >= kSmallestPage && !fits(fd, entry, bytes, {{page, 2 * page}, {5 * page, page}})) entry /= 2;
    munmap(at, size);
    if (entry < kSmallestPage) return std::nullopt;
    return entry;
}

class PageMap {
  public:
    PageMap() : fd_(open(kPageMapPath, O_RDONLY | O_CLOEXEC)) {}
    ~PageMap() {
        if (fd_ >= 0) close(fd_);
    }
    PageMap(const PageMap&) = delete;
    PageMap& operator=(const PageMap&) = delete;
    int fd() const { return fd_; }

    Result<size_t> entry_bytes() const {
        if (fd_ < 0) return errno_error("memory.page_map", kPageMapPath);
        static const std::optional<size_t> bytes = find_entry_bytes(fd_);
        if (bytes.has_value()) return *bytes;
        return error(ErrorCode::kUnsupported, "[memory.page_map] " + std::string(kPageMapPath) +
                                                  " does not speak of this process's pages of " +
                                                  std::to_string(page_size()) + " bytes (an emulator?)");
    }

    template <class Visit>
    Result<void> each(const uint8_t* base, size_t size, const Visit& visit) const {
        DW_ASSIGN(const size_t bytes, entry_bytes());
        return each_entry(fd_, bytes, base, size, visit);
    }

  private:
    int fd_;
};

#endif

}  // namespace

#if defined(__linux__)

Result<std::vector<PageRange>> private_pages_by_scan(const uint8_t* base, size_t size) {
    const PageMap map;
    DW_ASSIGN(const size_t entry_bytes, map.entry_bytes());
    if (entry_bytes != page_size()) return error(ErrorCode::kUnsupported, "[memory.page_scan] of an emulator's kernel");
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

std::span<const uint64_t> join_entries(std::span<uint64_t> entries, size_t per_page) {
    if (per_page == 1) return entries;
    for (size_t page = 0; page < entries.size() / per_page; ++page) {
        uint64_t flags = 0;
        bool own = false;
        for (const uint64_t entry : entries.subspan(page * per_page, per_page)) {
            const uint64_t where = entry & (kPageMapPresent | kPageMapSwapped);
            own = own || (where != 0 && (entry & kPageMapFileOrShared) == 0);
            flags |= where;
        }
        entries[page] = flags | (own || flags == 0 ? 0 : kPageMapFileOrShared);
    }
    return entries.first(entries.size() / per_page);
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
