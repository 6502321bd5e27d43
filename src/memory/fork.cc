// Regions that can be forked while they live. Growth maps shared memory, written in place. A fork maps it once more,
// privately, for each of the two branches: from then on it does not change, and what a branch writes is its own.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory/descriptor.h"
#include "memory/page_map.h"

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

}  // namespace

Region::Descriptor::~Descriptor() { close(fd); }

Result<std::shared_ptr<const Region::Descriptor>> Region::Descriptor::copy(int fd) {
    const int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (again < 0) return errno_error("memory.map_file", "a descriptor for later forks");
    return std::make_shared<const Descriptor>(again);
}

Result<std::shared_ptr<const Region::Descriptor>> Region::Descriptor::memory() {
#if defined(__linux__)
    const int fd = memfd_create("driftwood-region", MFD_CLOEXEC);
    if (fd < 0) return errno_error("memory.grow", "shared memory");
    return std::make_shared<const Descriptor>(fd);
#else
    return error(ErrorCode::kUnsupported, "[memory.grow] shareable memory needs memfd_create, which only Linux has");
#endif
}

Result<void> Region::grow_shareable(size_t target) {
    if (memory_file_ == nullptr) {
        DW_ASSIGN(memory_file_, Descriptor::memory());
    }
    const std::string what = "from " + std::to_string(size_) + " to " + std::to_string(target) + " bytes";
    if (ftruncate(memory_file_->fd, static_cast<off_t>(target)) != 0) return errno_error("memory.grow", what);
    if (!map(base_ + size_, target - size_, MAP_SHARED, memory_file_->fd, size_)) {
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
        const int fd = range.file->fd;
        const uint64_t end = range.file_offset + range.length;
        for (uint64_t at = range.file_offset; at < end;) {
            const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
            if (data < 0 && errno == ENXIO) break;  // nothing but a hole is left
            const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
            if (hole < 0) return errno_error("memory.changed_pages", "shared memory");
            const uint64_t from = std::min<uint64_t>(static_cast<uint64_t>(data), end);
            at = std::min<uint64_t>(static_cast<uint64_t>(hole), end);
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
    if (probe == ChangeProbe::kCompare) return different_pages(bytes(), before);
    auto pages =
        probe == ChangeProbe::kPageMap ? private_pages_by_page_map(base_, size_) : private_pages_by_scan(base_, size_);
    if (!pages.ok() && probe == ChangeProbe::kBest) pages = private_pages_by_page_map(base_, size_);
    if (!pages.ok()) {
        if (probe == ChangeProbe::kBest) return different_pages(bytes(), before);
        return pages;
    }
    if (backing_ == Backing::kAnonymous) return pages;
    DW_ASSIGN(const auto shared, written_shared_pages());
    pages->insert(pages->end(), shared.begin(), shared.end());
    return joined(std::move(*pages));
}

Result<Region> Region::fork() {
    CHECK(!held());
    if (backing_ != Backing::kShareable) {
        return error(ErrorCode::kUnsupported, "[memory.fork] the region is not shareable: reserve it as such");
    }
    DW_TRY(check_intact(0, size_));
    DW_ASSIGN(Region child, reserve(capacity_, guard_, backing_));
    DW_TRY(child.become_branch_of(*this));
    DW_TRY(check_intact(0, size_));  // a file may have been lost while it was copied
    DW_TRY(stop_sharing());
    return child;
}

Result<void> Region::become_branch_of(const Region& parent) {
    if (parent.size_ == 0) return {};
    if (mprotect(base_, parent.size_, kReadWrite) != 0) return errno_error("memory.fork", "commit");
    size_ = parent.size_;
    for (const FileRange& range : parent.files_) {
        const bool is_file = range.kind == Kind::kFile;
        if (!map(base_ + range.offset, range.length, MAP_PRIVATE, range.file->fd, range.file_offset)) {
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
    auto own = private_pages_by_scan(parent.base_, size_);
    if (!own.ok()) own = private_pages_by_page_map(parent.base_, size_);
    if (!own.ok()) own = std::vector<PageRange>{{0, size_}};
    for (const PageRange& range : *own) {
        std::memcpy(base_ + range.offset, parent.base_ + range.offset, range.length);
    }
    return {};
}

Result<void> Region::stop_sharing() {
    for (FileRange& range : files_) {
        if (range.kind != Kind::kLive) continue;
        uint8_t* at = base_ + range.offset;
        if (!map(at, range.length, MAP_PRIVATE, range.file->fd, range.file_offset)) {
            const Error failure = errno_error("memory.fork", "map");
            CHECK(map(at, range.length, MAP_SHARED, range.file->fd, range.file_offset));
            return failure;
        }
        range.kind = Kind::kBranch;
    }
    memory_file_.reset();  // what grows later is new shared memory
    return {};
}

}  // namespace driftwood::memory
