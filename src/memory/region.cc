#include "memory/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "memory/page_map.h"

namespace driftwood::memory {
namespace {

constexpr int kReserveFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

bool rounds_up(size_t bytes) { return bytes <= std::numeric_limits<size_t>::max() - (page_size() - 1); }

bool page_aligned(uint64_t value) { return value % page_size() == 0; }

// ENOMEM means a limit (address space, number of mappings), everything else is the system's word.
Error map_error(const char* operation, const std::string& thing) {
    if (errno == ENOMEM || errno == EAGAIN) {
        return error(ErrorCode::kLimit, "[" + std::string(operation) + "] " + thing +
                                            ": the system has no address space or mappings left (see ulimit -v and "
                                            "vm.max_map_count)");
    }
    return errno_error(operation, thing);
}

std::string range_text(size_t offset, size_t length) {
    return std::to_string(length) + " bytes at " + std::to_string(offset);
}

bool map_zeros(uint8_t* at, size_t length) {
    return mmap(at, length, PROT_READ | PROT_WRITE, kReserveFlags | MAP_FIXED, -1, 0) != MAP_FAILED;
}

}  // namespace

size_t page_size() {
    static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

size_t round_up_to_page(size_t bytes) {
    CHECK(rounds_up(bytes));
    return (bytes + page_size() - 1) / page_size() * page_size();
}

Result<Region> Region::reserve(size_t capacity_bytes, size_t guard_bytes, Backing backing) {
    const std::string what = std::to_string(capacity_bytes) + " bytes and a guard of " + std::to_string(guard_bytes);
    if (!rounds_up(capacity_bytes) || !rounds_up(guard_bytes) ||
        round_up_to_page(capacity_bytes) > std::numeric_limits<size_t>::max() - round_up_to_page(guard_bytes)) {
        return error(ErrorCode::kLimit, "[memory.reserve] " + what + ": more than the address space");
    }
    Region region;
    region.backing_ = backing;
    region.capacity_ = round_up_to_page(capacity_bytes);
    region.guard_ = round_up_to_page(guard_bytes);
    if (region.capacity_ + region.guard_ == 0) return region;
    if (const auto claimed = region.claim_.raise({1, region.capacity_ + region.guard_}); !claimed.ok()) {
        region.capacity_ = region.guard_ = 0;
        return claimed.error();
    }
    void* at = mmap(nullptr, region.capacity_ + region.guard_, PROT_NONE, kReserveFlags, -1, 0);
    if (at == MAP_FAILED) {
        region.capacity_ = region.guard_ = 0;
        return map_error("memory.reserve", what);
    }
    region.base_ = static_cast<uint8_t*>(at);
    return region;
}

Region::Region(Region&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)),
      guard_(std::exchange(other.guard_, 0)),
      backing_(other.backing_),
      pins_(std::exchange(other.pins_, {})),
      claim_(std::move(other.claim_)),
      files_(std::exchange(other.files_, {})),
      memory_file_(std::exchange(other.memory_file_, nullptr)) {
    CHECK(!other.held());
}

Region& Region::operator=(Region&& other) noexcept {
    if (this == &other) return *this;
    CHECK(!other.held());
    release();
    base_ = std::exchange(other.base_, nullptr);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    guard_ = std::exchange(other.guard_, 0);
    backing_ = other.backing_;
    pins_ = std::exchange(other.pins_, {});
    claim_ = std::move(other.claim_);
    files_ = std::exchange(other.files_, {});
    memory_file_ = std::exchange(other.memory_file_, nullptr);
    return *this;
}

Region::~Region() { release(); }

Pin* Region::pin_of(const void* owner) const {
    const auto found = std::find_if(pins_.begin(), pins_.end(), [&](const auto& pin) { return pin.first == owner; });
    return found == pins_.end() ? nullptr : found->second.get();
}

Pin& Region::pin(const void* owner, std::unique_ptr<Pin> pin) {
    CHECK(pin_of(owner) == nullptr);
    return *pins_.emplace_back(owner, std::move(pin)).second;
}

void Region::release() {
    CHECK(!held());
    unpin();
    files_.clear();
    memory_file_.reset();
    if (base_ != nullptr) CHECK(munmap(base_, capacity_ + guard_) == 0);
    base_ = nullptr;
    claim_ = {};
}

size_t Region::mappings() const {
    size_t count = size_ < capacity_ + guard_ ? 1 : 0;
    size_t at = 0;
    for (const FileRange& file : files_) {
        count += file.offset > at ? 2 : 1;
        at = file.offset + file.length;
    }
    return count + (at < size_ ? 1 : 0);
}

Result<void> Region::grow(size_t size_bytes) {
    if (size_bytes <= size_) return {};
    if (size_bytes > capacity_) {
        return error(ErrorCode::kLimit, "[memory.grow] want " + std::to_string(size_bytes) +
                                            " bytes, the reservation has " + std::to_string(capacity_));
    }
    const size_t target = round_up_to_page(size_bytes);
    DW_TRY(claim(1));
    if (backing_ == Backing::kShareable) {
        DW_TRY(grow_shareable(target));
    } else if (mprotect(base_ + size_, target - size_, PROT_READ | PROT_WRITE) != 0) {
        return map_error("memory.grow", "from " + std::to_string(size_) + " to " + std::to_string(target) + " bytes");
    }
    size_ = target;
    settle();
    return {};
}

Result<void> Region::check_range(const char* operation, size_t offset, size_t length) const {
    const std::string head = "[" + std::string(operation) + "] " + range_text(offset, length);
    if (!page_aligned(offset) || !page_aligned(length)) {
        return error(ErrorCode::kInvalidArgument,
                     head + ": not a multiple of the page size " + std::to_string(page_size()));
    }
    if (offset > size_ || length > size_ - offset) {
        return error(ErrorCode::kInvalidArgument, head + ": the region has " + std::to_string(size_));
    }
    return {};
}

Result<void> Region::map_file(size_t offset, int fd, uint64_t file_offset, size_t length) {
    return map_file(offset, fd, nullptr, file_offset, length);
}

Result<void> Region::map_file(size_t offset, const SharedFile& file, uint64_t file_offset, size_t length) {
    return map_file(offset, file->fd(), file, file_offset, length);
}

Result<void> Region::map_file(size_t offset, int fd, const SharedFile& kept, uint64_t file_offset, size_t length) {
    DW_TRY(check_range("memory.map_file", offset, length));
    const std::string what = range_text(offset, length) + " from file offset " + std::to_string(file_offset);
    if (!page_aligned(file_offset)) {
        return error(ErrorCode::kInvalidArgument,
                     "[memory.map_file] " + what + ": not a multiple of the page size " + std::to_string(page_size()));
    }
    struct stat st {};
    if (fstat(fd, &st) != 0) return errno_error("memory.map_file", what);
    const uint64_t file_bytes = S_ISREG(st.st_mode) ? static_cast<uint64_t>(st.st_size) : 0;
    if (file_offset > file_bytes || length > file_bytes - file_offset) {
        return error(ErrorCode::kInvalidArgument,
                     "[memory.map_file] " + what + ": the file has " + std::to_string(file_bytes) + " bytes");
    }
    if (length == 0) return {};
    CHECK(!held());
    unpin();
    DW_TRY(claim(2));
    DW_TRY(forget_file(offset, length));
    void* at = mmap(base_ + offset, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
                    static_cast<off_t>(file_offset));
    if (at == MAP_FAILED) {
        const Error failure = map_error("memory.map_file", what);
        // A failed MAP_FIXED may have unmapped the range: a hole that other mappings could fall into.
        CHECK(map_zeros(base_ + offset, length));
        return failure;
    }
    auto guard = FaultGuard::watch(base_ + offset, length, FaultGuard::Access::kReadWrite);
    if (!guard.ok()) {
        CHECK(map_zeros(base_ + offset, length));
        return std::move(guard).error();
    }
    add_file(
        {.offset = offset, .length = length, .file_offset = file_offset, .guard = std::move(*guard), .file = kept});
    settle();
    return {};
}

void Region::add_file(FileRange file) {
    const auto at = std::upper_bound(files_.begin(), files_.end(), file.offset,
                                     [](size_t offset, const FileRange& f) { return offset < f.offset; });
    files_.insert(at, std::move(file));
}

// The last part of a range, from `at` (inside it, not its begin) on; the first part stays.
Result<Region::FileRange> Region::split(FileRange& file, size_t at) const {
    const size_t keep = at - file.offset;
    FileRange rest{.offset = at,
                   .length = file.length - keep,
                   .file_offset = file.file_offset + keep,
                   .guard = {},
                   .file = file.file,
                   .kind = file.kind};
    if (file.kind == Kind::kFile) {
        DW_ASSIGN(rest.guard, file.guard.split(base_ + at));
    }
    file.length = keep;
    return rest;
}

Result<void> Region::forget_file(size_t offset, size_t length) {
    const size_t end = offset + length;
    auto file = std::partition_point(files_.begin(), files_.end(),
                                     [&](const FileRange& f) { return f.offset + f.length <= offset; });
    if (file == files_.end() || file->offset >= end) return {};
    if (file->offset < offset) {  // its first part stays
        DW_ASSIGN(FileRange rest, split(*file, offset));
        file = files_.insert(file + 1, std::move(rest));
    }
    auto last = file;
    while (last != files_.end() && last->offset + last->length <= end) ++last;
    if (last != files_.end() && last->offset < end) {  // its last part stays
        DW_ASSIGN(FileRange rest, split(*last, end));
        *last = std::move(rest);
    }
    files_.erase(file, last);
    return {};
}

bool Region::failed() const {
    return std::any_of(files_.begin(), files_.end(), [](const FileRange& file) { return file.guard.failed(); });
}

Result<void> Region::check_intact(size_t offset, size_t length) const {
    auto file = std::partition_point(files_.begin(), files_.end(),
                                     [&](const FileRange& f) { return f.offset + f.length <= offset; });
    while (file != files_.end() && file->offset < offset + length && !file->guard.failed()) ++file;
    if (file == files_.end() || file->offset >= offset + length) return {};
    return error(ErrorCode::kIo, "[memory.fault] " + range_text(file->offset, file->length) + " from file offset " +
                                     std::to_string(file->file_offset) +
                                     ": the file became shorter or unreadable while it was mapped");
}

Result<void> Region::reset(size_t offset, size_t length) {
    DW_TRY(check_range("memory.reset", offset, length));
    if (length == 0) return {};
    CHECK(!held());
    unpin();
    // Only a part of a view leaves more mappings than there were: giving back works when everything is taken.
    const auto inside_a_file = [&](size_t at) {
        return std::any_of(files_.begin(), files_.end(),
                           [at](const FileRange& f) { return at > f.offset && at < f.offset + f.length; });
    };
    DW_TRY(claim((inside_a_file(offset) ? 1 : 0) + (inside_a_file(offset + length) ? 1 : 0)));
    DW_TRY(forget_file(offset, length));
    if (!map_zeros(base_ + offset, length)) {
        const Error failure = map_error("memory.reset", range_text(offset, length));
        CHECK(map_zeros(base_ + offset, length));  // as in map_file: never leave a hole
        return failure;
    }
    settle();
    return {};
}

Result<Footprint> Region::footprint() const { return footprint_of(base_, size_); }

Result<size_t> Region::resident_bytes() const {
    DW_ASSIGN(const Footprint footprint, this->footprint());
    return footprint.resident_bytes;
}

bool Region::contains(const void* pointer, size_t length) const {
    const uintptr_t start = reinterpret_cast<uintptr_t>(base_);
    const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    return at >= start && at - start <= size_ && length <= size_ - (at - start);
}

}  // namespace driftwood::memory
