// Regions that are forked while they live. What a branch can map again (shared memory, files that are kept open) is
// mapped once more, privately, for each of the two: from then on it does not change, and what a branch writes is its
// own. What cannot be mapped again moves into shared memory first.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory/page_map.h"
#include "memory/region.h"

namespace driftwood::memory {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

bool map(uint8_t* at, size_t length, int flags, int fd, uint64_t file_offset) {
    return mmap(at, length, kReadWrite, flags | MAP_NORESERVE | MAP_FIXED, fd, static_cast<off_t>(file_offset)) !=
           MAP_FAILED;
}

// Sorts, and joins what touches or overlaps.
std::vector<PageRange> joined(std::vector<PageRange> ranges) {
    std::sort(ranges.begin(), ranges.end(), [](const PageRange& a, const PageRange& b) { return a.offset < b.offset; });
    std::vector<PageRange> out;
    for (const PageRange& range : ranges) {
        if (!out.empty() && range.offset <= out.back().offset + out.back().length) {
            const size_t end = std::max(out.back().offset + out.back().length, range.offset + range.length);
            out.back().length = end - out.back().offset;
        } else {
            out.push_back(range);
        }
    }
    return out;
}

// The pages that were written to since they were mapped; all of them where the system does not say.
std::vector<PageRange> own_pages(const uint8_t* base, size_t size) {
    auto own = private_pages_by_scan(base, size);
    if (!own.ok()) own = private_pages_by_page_map(base, size);
    if (!own.ok()) return {{0, size}};
    return *std::move(own);
}

// The parts of ascending `ranges` that lie in `window`.
std::vector<PageRange> common(const std::vector<PageRange>& ranges, const PageRange& window) {
    std::vector<PageRange> parts;
    for (const PageRange& range : ranges) {
        const size_t begin = std::max(range.offset, window.offset);
        const size_t end = std::min(range.offset + range.length, window.offset + window.length);
        if (begin < end) parts.push_back({begin, end - begin});
    }
    return parts;
}

Result<void> write_all(int fd, std::span<const uint8_t> bytes, uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t wrote = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return errno_error("memory.fork", "into shared memory");
        bytes = bytes.subspan(static_cast<size_t>(wrote));
        offset += static_cast<uint64_t>(wrote);
    }
    return {};
}

}  // namespace

Result<void> Region::grow_shareable(size_t target) {
    if (memory_file_ == nullptr) {
        DW_ASSIGN(memory_file_, shared_memory(0));
    }
    const std::string what = "from " + std::to_string(size_) + " to " + std::to_string(target) + " bytes";
    if (ftruncate(memory_file_->fd(), static_cast<off_t>(target)) != 0) return errno_error("memory.grow", what);
    if (!map(base_ + size_, target - size_, MAP_SHARED, memory_file_->fd(), size_)) {
        const Error failure = errno_error("memory.grow", what);
        // A failed MAP_FIXED may have unmapped the range: reserve it again.
        constexpr int kReserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
        CHECK(mmap(base_ + size_, target - size_, PROT_NONE, kReserve, -1, 0) != MAP_FAILED);
        return failure;
    }
    FileRange* last = files_.empty() ? nullptr : &files_.back();
    if (last != nullptr && last->kind == Kind::kLive && last->offset + last->length == size_) {
        last->length += target - size_;
        return {};
    }
    add_file({.offset = size_,
              .length = target - size_,
              .file_offset = size_,
              .guard = {},
              .file = memory_file_,
              .kind = Kind::kLive});
    return {};
}

// The pages of live and branch ranges that shared memory has: it has a page as soon as it is touched, also in swap.
Result<std::vector<PageRange>> Region::written_shared_pages() const {
    std::vector<PageRange> ranges;
#if defined(SEEK_DATA)
    for (const FileRange& range : files_) {
        if (range.kind == Kind::kFile) continue;
        const int fd = range.file->fd();
        const uint64_t end = range.file_offset + range.length;
        for (uint64_t at = range.file_offset; at < end;) {
            const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
            if (data < 0 && errno == ENXIO) break;  // nothing but a hole is left
            const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
            if (hole < 0) return errno_error("memory.changed_pages", "shared memory");
            // Out to whole pages of ours: the kernel's may be smaller (page_map.cc).
            const uint64_t from = std::min<uint64_t>(static_cast<uint64_t>(data) / page_size() * page_size(), end);
            at = std::min<uint64_t>(round_up_to_page(static_cast<size_t>(hole)), end);
            if (at > from) ranges.push_back({range.offset + (from - range.file_offset), at - from});
        }
    }
#else
    for (const FileRange& range : files_) {
        if (range.kind != Kind::kFile) ranges.push_back({range.offset, range.length});
    }
#endif
    return ranges;
}

Result<std::vector<PageRange>> Region::changed_pages(std::span<const uint8_t> before, ChangeProbe probe) const {
    DW_TRY(check_intact(0, size_));
    if (probe == ChangeProbe::kCompare) return different_pages(bytes(), before, page_size());
    auto pages =
        probe == ChangeProbe::kPageMap ? private_pages_by_page_map(base_, size_) : private_pages_by_scan(base_, size_);
    if (!pages.ok() && probe == ChangeProbe::kBest) pages = private_pages_by_page_map(base_, size_);
    if (!pages.ok()) {
        if (probe == ChangeProbe::kBest) return different_pages(bytes(), before, page_size());
        return pages;
    }
    DW_ASSIGN(const auto shared, written_shared_pages());
    if (shared.empty()) return pages;
    pages->insert(pages->end(), shared.begin(), shared.end());
    return joined(std::move(*pages));
}

Result<Region> Region::fork() {
    CHECK(!held());
    unpin();
    DW_TRY(check_intact(0, size_));
    DW_TRY(share());
    DW_ASSIGN(Region child, reserve(capacity_, guard_, backing_));
    DW_TRY(child.become_branch_of(*this));
    DW_TRY(check_intact(0, size_));  // a file may have been lost while it was copied
    DW_TRY(stop_sharing());
    return child;
}

// Where nothing stands that another Region could map: anonymous memory, and views of files that were not kept.
std::vector<PageRange> Region::unshared_ranges() const {
    std::vector<PageRange> ranges;
    size_t at = 0;
    for (const FileRange& range : files_) {
        if (range.offset > at) ranges.push_back({at, range.offset - at});
        if (range.file == nullptr) ranges.push_back({range.offset, range.length});
        at = range.offset + range.length;
    }
    if (at < size_) ranges.push_back({at, size_ - at});
    return ranges;
}

// Moves unshared ranges into shared memory, where they have been written to or show a file.
Result<void> Region::share() {
    const std::vector<PageRange> unshared = unshared_ranges();
    if (unshared.empty()) return {};
    const std::vector<PageRange> own = own_pages(base_, size_);
    SharedFile file;
    std::vector<PageRange> moved;
    for (const PageRange& range : unshared) {
        const auto view =
            std::find_if(files_.begin(), files_.end(), [&](const FileRange& f) { return f.offset == range.offset; });
        const auto content = view != files_.end() ? std::vector{range} : common(own, range);
        if (content.empty()) continue;
        if (file == nullptr) {
            DW_ASSIGN(file, shared_memory(size_));
        }
        for (const PageRange& part : content)
            DW_TRY(write_all(file->fd(), bytes().subspan(part.offset, part.length), part.offset));
        moved.push_back(range);
    }
    DW_TRY(check_intact(0, size_));  // what was copied came from files, not from the zeros that take their place
    DW_TRY(claim(2 * moved.size()));
    for (const PageRange& range : moved) {
        DW_TRY(forget_file(range.offset, range.length));
        uint8_t* at = base_ + range.offset;
        const auto map_it = [&] { return map(at, range.length, MAP_PRIVATE, file->fd(), range.offset); };
        CHECK(map_it() || map_it());  // the first one may have failed for the mappings that it takes away
        add_file({.offset = range.offset,
                  .length = range.length,
                  .file_offset = range.offset,
                  .guard = {},
                  .file = file,
                  .kind = Kind::kBranch});
    }
    settle();
    return {};
}

Result<void> Region::become_branch_of(const Region& parent) {
    if (parent.size_ == 0) return {};
    DW_TRY(claim_.raise({parent.mappings(), capacity_ + guard_}));
    if (mprotect(base_, parent.size_, kReadWrite) != 0) return errno_error("memory.fork", "commit");
    size_ = parent.size_;
    for (const FileRange& range : parent.files_) {
        const bool is_file = range.kind == Kind::kFile;
        if (!map(base_ + range.offset, range.length, MAP_PRIVATE, range.file->fd(), range.file_offset)) {
            return errno_error("memory.fork", "map");
        }
        FaultGuard guard;
        if (is_file) {
            DW_ASSIGN(guard, FaultGuard::watch(base_ + range.offset, range.length, FaultGuard::Access::kReadWrite));
        }
        add_file({.offset = range.offset,
                  .length = range.length,
                  .file_offset = range.file_offset,
                  .guard = std::move(guard),
                  .file = range.file,
                  .kind = is_file ? Kind::kFile : Kind::kBranch});
    }
    // What the parent has for itself alone. Live pages belong to a file, so the page map does not count them.
    for (const PageRange& range : own_pages(parent.base_, size_)) {
        std::memcpy(base_ + range.offset, parent.base_ + range.offset, range.length);
    }
    settle();
    return {};
}

Result<void> Region::stop_sharing() {
    for (FileRange& range : files_) {
        if (range.kind != Kind::kLive) continue;
        uint8_t* at = base_ + range.offset;
        if (!map(at, range.length, MAP_PRIVATE, range.file->fd(), range.file_offset)) {
            const Error failure = errno_error("memory.fork", "map");
            CHECK(map(at, range.length, MAP_SHARED, range.file->fd(), range.file_offset));
            return failure;
        }
        range.kind = Kind::kBranch;
    }
    memory_file_.reset();  // what grows later is new shared memory
    return {};
}

}  // namespace driftwood::memory
