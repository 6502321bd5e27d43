// Region: page-aligned memory that host, guest and compute device address alike.
//
// A Region reserves one range of addresses for its whole life and never moves, so a pointer into it stays good while it
// grows. Its first size() bytes are committed (readable and writable; zero until written or backed); the rest of the
// reservation and the guard behind it fault on any touch. Parts of it can be backed by a range of a file, privately:
// what is read comes from the file without a copy, what is written stays in this process (copy-on-write).
//
// A file that becomes shorter or unreadable under its map costs that range its bytes, and nobody else anything: whoever
// touches it, on any thread, finds zeros there and in all the rest of what the same call of map_file had mapped, and
// the Region says that it failed (memory/fault.h). So whoever owns the Region asks failed() or check_intact() before
// anything that was made from its bytes goes out. A range stays failed until something else backs it.
//
// A Region can be forked while it lives: both branches then show the same pages and copy what they write.
//
// A device that works on a Region holds it (hold()). Pinned pages and new mappings do not mix: a device would go on
// writing to pages that the Region no longer shows, or that another branch does. So fork, map_file, reset, moving and
// destroying CHECK that nobody holds it. Growing is free. What a device keeps pinned between its operations is a Pin
// of the Region's: fork, map_file, reset and destroying end it first, which waits for what the device still writes.
//
// Every failure leaves the Region as it was, except map_file and reset: there the range may have become zeros.
//
// Invariants: base() is aligned to page_size(); size() <= capacity(); bytes never change address.
// Ownership: move-only; the destructor unmaps everything. Threads: one at a time; reading memory that nobody resizes or
// remaps is free for all.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "memory/budget.h"
#include "memory/fault.h"
#include "memory/page_range.h"
#include "memory/shared_file.h"

namespace driftwood::memory {

// The system's page size in bytes (4, 16 or 64 KiB), read from the system once.
size_t page_size();

// `bytes` rounded up to whole pages. Precondition: the result fits size_t.
size_t round_up_to_page(size_t bytes);

// What a guest's linear memory may cost in mappings of the process (Linux: vm.max_map_count, 65,530 by default): the
// view of its image, what it has grown since, and the rest of the reservation with the guard. So 10,000 idle guests
// take 30,000 mappings and 41 of the 128 TiB of addresses. Every further range under a file, as in a KV pool, adds up
// to two. memory/budget.h refuses what would be too much.
inline constexpr size_t kMappingsPerGuest = 3;

// What the committed bytes of a Region are before a file, a write or a fork.
enum class Backing : uint8_t {
    kAnonymous,  // memory of this process; a fork first moves what was written into shared memory, about 0.3 ms per MB
    kShareable,  // shared memory from the start: the first fork moves nothing; one descriptor, and no huge pages
};

// Pages that a device has pinned. The destructor waits until the device has written all that it was told to, and lets
// the pages go. May outlive the device.
class Pin {
  public:
    Pin() = default;
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    virtual ~Pin() = default;
};

class Region {
  public:
    // Reserves `capacity_bytes` of addresses (rounded up to pages) and `guard_bytes` of unmapped ones behind them.
    // Commits nothing. Fails with kLimit when the address space or the mapping count does not allow it (budget.h).
    static Result<Region> reserve(size_t capacity_bytes, size_t guard_bytes = 0, Backing backing = Backing::kAnonymous);

    Region() = default;  // an empty Region: capacity 0
    Region(Region&& other) noexcept;
    Region& operator=(Region&& other) noexcept;
    ~Region();

    uint8_t* base() const { return base_; }
    size_t size() const { return size_; }
    size_t capacity() const { return capacity_; }
    std::span<uint8_t> bytes() const { return {base_, size_}; }

    // Grows in place to at least `size_bytes` (rounded up to pages); the new bytes are zero. Smaller than size():
    // no-op. Fails with kLimit beyond capacity().
    Result<void> grow(size_t size_bytes);

    // Backs [offset, offset + length) by `length` bytes of the file `fd` from `file_offset`, private copy-on-write;
    // what was there before is gone. All three are multiples of page_size(), the range lies inside size(), and the file
    // reaches at least to file_offset + length (checked: a short file would fault later). The bytes of the file must
    // not change while it is mapped. A bare `fd` may be closed afterwards; a SharedFile stays open, and forks map it
    // again where they have to copy what a bare one showed.
    Result<void> map_file(size_t offset, int fd, uint64_t file_offset, size_t length);
    Result<void> map_file(size_t offset, const SharedFile& file, uint64_t file_offset, size_t length);

    // A second Region with the same bytes, capacity and guard, at another address. Neither sees what is written to the
    // other from now on. Pages are shared until one of the two writes to them. Copied now are only: what was written
    // under a SharedFile or since an earlier fork (for the child), and what was written anywhere else or lies under a
    // bare descriptor (into shared memory, for both, once). kIo when the Region failed. Precondition: !held().
    Result<Region> fork();

    // A device's use of this Region, for as long as the object lives; any number at once, on any thread. Does not
    // outlive the Region.
    class Hold {
      public:
        Hold(Hold&& other) noexcept : region_(std::exchange(other.region_, nullptr)) {}
        Hold& operator=(Hold&&) = delete;
        ~Hold() {
            if (region_ != nullptr) --region_->holds_;
        }

      private:
        friend class Region;
        explicit Hold(Region& region) : region_(&region) { ++region.holds_; }
        Region* region_;
    };
    [[nodiscard]] Hold hold() { return Hold(*this); }
    bool held() const { return holds_ > 0; }

    // The pin that `owner` (any address that is its own for as long as the pin lives) gave to this Region; null where
    // there is none, or no more. Pins move with the Region. Threads: as the Region.
    Pin* pin_of(const void* owner) const;
    Pin& pin(const void* owner, std::unique_ptr<Pin> pin);
    // Ends all pins.
    void unpin() { pins_.clear(); }

    // Whether a file under any part of the Region became unreadable.
    bool failed() const;
    // The same for [offset, offset + length), which lies inside size(), as a kIo error that says which file range is
    // gone.
    Result<void> check_intact(size_t offset, size_t length) const;

    // Makes [offset, offset + length) anonymous zero pages again, whatever backed it. Multiples of page_size().
    Result<void> reset(size_t offset, size_t length);

    // The pages that may have changed since their mark. A page's mark is what last put bytes there: map_file (the
    // file's bytes) or grow and reset (zeros). So after the pages have been written into a new image, mapping that
    // image is the next mark. Never leaves a changed page out, wherever the system keeps it; under a file map it names
    // exactly the pages written to, in other memory also some that were only read or lie in a huge page with a
    // written one. Ranges ascend and do not touch. `before` is what the Region showed at the mark (zeros behind its
    // end): only kCompare reads it, and kBest where nothing better works. kIo when the Region failed: nobody knows
    // then.
    Result<std::vector<PageRange>> changed_pages(std::span<const uint8_t> before,
                                                 ChangeProbe probe = ChangeProbe::kBest) const;

    // The mappings of the process that this Region is, at most: what it claims of the budget.
    size_t mappings() const;

    // Where the bytes of [0, size()) are. Linux only (/proc/self/pagemap): kUnsupported elsewhere, kIo where that
    // cannot be read.
    Result<Footprint> footprint() const;
    Result<size_t> resident_bytes() const;  // footprint().resident_bytes

    // Whether [pointer, pointer + length) lies inside [base, base + size()).
    bool contains(const void* pointer, size_t length) const;

  private:
    enum class Kind : uint8_t {
        kFile,    // a private view of a file
        kLive,    // shared memory of this Region alone, written in place
        kBranch,  // a private view of what was live before a fork, and does not change any more
    };
    // What one map_file mapped, or what is left of it; also what growth or a fork took from shared memory.
    struct FileRange {
        size_t offset = 0;
        size_t length = 0;
        uint64_t file_offset = 0;
        FaultGuard guard;
        SharedFile file;  // what a fork maps; null under a bare descriptor
        Kind kind = Kind::kFile;
    };

    Result<void> map_file(size_t offset, int fd, const SharedFile& kept, uint64_t file_offset, size_t length);
    // Forgets what was mapped in [offset, offset + length), before something else is. All or nothing.
    Result<void> forget_file(size_t offset, size_t length);
    void add_file(FileRange file);
    Result<FileRange> split(FileRange& file, size_t at) const;
    Result<std::vector<PageRange>> written_shared_pages() const;
    Result<void> grow_shareable(size_t target);
    std::vector<PageRange> unshared_ranges() const;
    Result<void> share();
    Result<void> become_branch_of(const Region& parent);
    Result<void> stop_sharing();
    Result<void> check_range(const char* operation, size_t offset, size_t length) const;
    void release();
    // Claims `more` mappings than there are, which an operation may need on its way; settle() when it is done.
    Result<void> claim(size_t more) { return claim_.raise({mappings() + more, capacity_ + guard_}); }
    void settle() { claim_.set({mappings(), capacity_ + guard_}); }

    uint8_t* base_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
    size_t guard_ = 0;
    Backing backing_ = Backing::kAnonymous;
    std::atomic<uint32_t> holds_{0};  // devices let go on threads of their own
    std::vector<std::pair<const void*, std::unique_ptr<Pin>>> pins_;
    BudgetClaim claim_;
    std::vector<FileRange> files_;  // ascending, apart
    SharedFile memory_file_;        // of the live ranges; null before growth and after a fork
};

}  // namespace driftwood::memory
