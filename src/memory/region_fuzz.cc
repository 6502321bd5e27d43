// Sequences of Region operations beside a plain model: whatever is reserved, grown, mapped, forked, held, written, lost
// and moved in whatever order, every Region shows what a vector of bytes shows after the same, refuses exactly what it
// says it refuses, and never leaves a changed page out. The input is the sequence: a byte names an operation, the next
// ones its arguments.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <optional>
#include <vector>

#include "base/check.h"
#include "memory/region.h"

namespace driftwood::memory {
namespace {

const size_t kPage = page_size();
constexpr size_t kMostPages = 12;
constexpr size_t kMostBranches = 6;
constexpr size_t kFilePages = 8;

class Input {
  public:
    Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    bool empty() const { return left_ == 0; }
    uint8_t byte() {
        if (left_ == 0) return 0;
        --left_;
        return *data_++;
    }
    size_t below(size_t limit) { return limit == 0 ? 0 : byte() % limit; }

  private:
    const uint8_t* data_;
    size_t left_;
};

int memory_file(const std::vector<uint8_t>& bytes) {
    const int fd = memfd_create("region_fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return fd;
}

const std::vector<uint8_t>& content() {
    static const std::vector<uint8_t> bytes = [] {
        std::vector<uint8_t> all(kFilePages * kPage);
        for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(1 + i / kPage * 7 + i % 251);
        return all;
    }();
    return bytes;
}

const SharedFile& kept_file() {
    static const SharedFile file = std::make_shared<const OpenFile>(memory_file(content()));
    return file;
}

// A Region and what it should be.
struct Branch {
    Region region;
    std::vector<uint8_t> bytes;
    std::vector<uint8_t> before;  // what the pages showed at their marks
    std::optional<Region::Hold> hold;

    size_t pages() const { return bytes.size() / kPage; }
    bool agrees() const {
        return region.size() == bytes.size() && std::equal(bytes.begin(), bytes.end(), region.base());
    }
    void put(size_t offset, std::span<const uint8_t> from) {
        std::copy(from.begin(), from.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
        std::copy(from.begin(), from.end(), before.begin() + static_cast<ptrdiff_t>(offset));
    }
    void put_zeros(size_t offset, size_t length) { put(offset, std::vector<uint8_t>(length, 0)); }
};

struct Range {
    size_t offset, length;
};

// Whole pages inside the branch; at times a little beside that.
Range any_range(Input& in, const Branch& branch) {
    const size_t page = in.below(branch.pages() + 1);
    Range range{page * kPage, in.below(branch.pages() - page + 1) * kPage};
    const uint8_t odd = in.byte();
    if (odd == 1) range.offset += 1;
    if (odd == 2) range.length += kPage / 2;
    if (odd == 3) range.length += kMostPages * kPage;
    if (odd == 4) range.offset = ~size_t{0} - kPage + 1;
    return range;
}

bool fits(const Range& range, size_t size) {
    return range.offset % kPage == 0 && range.length % kPage == 0 && range.offset <= size &&
           range.length <= size - range.offset;
}

void grow(Input& in, Branch& branch) {
    const size_t want = in.below(kMostPages + 2) * kPage + in.below(2);
    const bool good = want <= branch.region.capacity();
    const auto grown = branch.region.grow(want);
    CHECK(grown.ok() == good && (good || grown.error().code == ErrorCode::kLimit));
    if (!good) return;
    const size_t size = std::max(branch.bytes.size(), round_up_to_page(want));
    branch.bytes.resize(size, 0);
    branch.before.resize(size, 0);
}

void map_file(Input& in, Branch& branch, bool kept) {
    const Range range = any_range(in, branch);
    const size_t from = in.below(kFilePages + 2) * kPage;
    const bool good = fits(range, branch.bytes.size()) && from + range.length <= content().size();
    const auto mapped = kept ? branch.region.map_file(range.offset, kept_file(), from, range.length)
                             : branch.region.map_file(range.offset, kept_file()->fd(), from, range.length);
    CHECK(mapped.ok() == good && (good || mapped.error().code == ErrorCode::kInvalidArgument));
    if (good) branch.put(range.offset, std::span(content()).subspan(from, range.length));
}

void reset(Input& in, Branch& branch) {
    const Range range = any_range(in, branch);
    const bool good = fits(range, branch.bytes.size());
    const auto done = branch.region.reset(range.offset, range.length);
    CHECK(done.ok() == good && (good || done.error().code == ErrorCode::kInvalidArgument));
    if (good) branch.put_zeros(range.offset, range.length);
}

void write(Input& in, Branch& branch) {
    if (branch.bytes.empty()) return;
    const size_t at = in.below(branch.pages()) * kPage + in.below(256) * kPage / 256;
    const size_t length = std::min(in.below(8) * kPage / 2 + 1, branch.bytes.size() - at);
    const uint8_t value = in.byte();
    std::fill_n(branch.region.base() + at, length, value);
    std::fill_n(branch.bytes.begin() + static_cast<ptrdiff_t>(at), length, value);
}

// A file that is truncated under its map fails its range, and everybody is told until something else is there.
void lose_a_file(Input& in, Branch& branch) {
    const Range range = any_range(in, branch);
    if (!fits(range, branch.bytes.size()) || range.length == 0 || range.length > content().size()) return;
    const int fd = memory_file(content());
    const auto mapped = branch.region.map_file(range.offset, fd, 0, range.length);
    CHECK(mapped.ok());
    const size_t touched = range.offset + in.below(range.length / kPage) * kPage;
    if (in.below(2) == 1) branch.region.base()[range.offset] = 99;
    CHECK(ftruncate(fd, 0) == 0);
    static_cast<void>(*const_cast<volatile uint8_t*>(branch.region.base() + touched));
    close(fd);
    branch.put_zeros(range.offset, range.length);
    if (branch.region.failed()) {  // not where the only page touched is the one that was written and is our own
        CHECK(branch.region.fork().error().code == ErrorCode::kIo);
        CHECK(branch.region.changed_pages({}).error().code == ErrorCode::kIo);
        CHECK(!branch.region.check_intact(range.offset, range.length).ok());
        CHECK(branch.agrees());
    }
    CHECK(branch.region.reset(range.offset, range.length).ok());
    CHECK(!branch.region.failed());
}

void changed_pages(Input& in, const Branch& branch) {
    constexpr ChangeProbe kProbes[] = {ChangeProbe::kBest, ChangeProbe::kScan, ChangeProbe::kPageMap,
                                       ChangeProbe::kCompare};
    const ChangeProbe probe = kProbes[in.below(std::size(kProbes))];
    const auto ranges = branch.region.changed_pages(branch.before, probe);
    if (!ranges.ok()) {
        CHECK(ranges.error().code == ErrorCode::kUnsupported);
        return;
    }
    std::vector<bool> named(branch.pages());
    size_t end = 0;
    bool first = true;
    for (const PageRange& range : *ranges) {
        CHECK(fits({range.offset, range.length}, branch.bytes.size()) && range.length > 0);
        CHECK(first || range.offset > end);
        first = false;
        end = range.offset + range.length;
        for (size_t page = range.offset / kPage; page < end / kPage; ++page) named[page] = true;
    }
    for (size_t page = 0; page < branch.pages(); ++page) {
        const auto at = static_cast<ptrdiff_t>(page * kPage);
        const bool same =
            std::equal(branch.bytes.begin() + at, branch.bytes.begin() + at + static_cast<ptrdiff_t>(kPage),
                       branch.before.begin() + at);
        CHECK(same || named[page]);
        CHECK(probe != ChangeProbe::kCompare || named[page] == !same);
    }
}

class World {
  public:
    void step(Input& in) {
        const uint8_t operation = in.byte() % 16;
        if (branches_.empty() || operation == 0) return reserve(in);
        Branch& branch = *std::next(branches_.begin(), static_cast<ptrdiff_t>(in.below(branches_.size())));
        switch (operation) {
            case 1:
            case 2: return grow(in, branch);
            case 3:
            case 4: return write(in, branch);
            case 5: return changed_pages(in, branch);
            case 6: CHECK(branch.agrees()); return;
            case 7: return hold(branch);
            case 8: return look(branch);
            default: break;
        }
        if (branch.region.held()) return;  // what follows is a failed CHECK then
        switch (operation) {
            case 9: return map_file(in, branch, /*kept=*/true);
            case 10: return map_file(in, branch, /*kept=*/false);
            case 11: return reset(in, branch);
            case 12: return fork(branch);
            case 13: return lose_a_file(in, branch);
            case 14: return move(branch);
            default: branches_.remove_if([&](const Branch& b) { return &b == &branch; });
        }
    }

    void check_all() const {
        uint64_t mappings = 0;
        for (const Branch& branch : branches_) {
            CHECK(branch.agrees());
            mappings += branch.region.mappings();
        }
        CHECK(budget_used().mappings == mappings);
    }

  private:
    void reserve(Input& in) {
        if (branches_.size() == kMostBranches) return;
        const Backing backing = in.below(2) == 0 ? Backing::kAnonymous : Backing::kShareable;
        const size_t pages = in.below(kMostPages + 1), guard = in.below(3);
        auto region = Region::reserve(pages * kPage, guard * kPage, backing);
        CHECK(region.ok() && region->capacity() == pages * kPage);
        add(std::move(*region), {}, {});
    }
    void add(Region region, std::vector<uint8_t> bytes, std::vector<uint8_t> before) {
        Branch& branch = branches_.emplace_back();
        branch.region = std::move(region);
        branch.bytes = std::move(bytes);
        branch.before = std::move(before);
    }
    void fork(Branch& branch) {
        if (branches_.size() == kMostBranches) return;
        auto child = branch.region.fork();
        CHECK(child.ok() && child->capacity() == branch.region.capacity());
        add(std::move(*child), branch.bytes, branch.before);
    }
    static void hold(Branch& branch) {
        if (branch.hold.has_value()) {
            branch.hold.reset();
        } else {
            branch.hold.emplace(branch.region.hold());
        }
        CHECK(branch.region.held() == branch.hold.has_value());
    }
    static void look(const Branch& branch) {
        const auto footprint = branch.region.footprint();
        CHECK(footprint.ok());
        CHECK(footprint->shared_bytes <= footprint->resident_bytes);
        CHECK(footprint->resident_bytes + footprint->swapped_bytes <= branch.bytes.size());
        CHECK(branch.region.contains(branch.region.base(), branch.bytes.size()));
        CHECK(!branch.region.contains(branch.region.base(), branch.bytes.size() + 1));
    }
    static void move(Branch& branch) {
        Region elsewhere = std::move(branch.region);
        branch.region = Region();
        branch.region = std::move(elsewhere);
    }

    std::list<Branch> branches_;
};

}  // namespace
}  // namespace driftwood::memory

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace driftwood::memory;
    Input in(data, size);
    {
        World world;
        while (!in.empty()) world.step(in);
        world.check_all();
    }
    CHECK(budget_used().mappings == 0 && budget_used().address_bytes == 0);
    return 0;
}
