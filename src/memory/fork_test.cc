// A live Region forked copy-on-write: neither branch ever sees the other's writes, and nothing is copied until then.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include "memory/region.h"
#include "memory/shared_file.h"
#include "memory/test_file.h"
#include "memory/test_pin.h"

namespace driftwood::memory {
namespace {

const size_t kPage = page_size();

Region shareable(size_t capacity_pages, size_t pages) {
    Region region = Region::reserve(capacity_pages * kPage, kPage, Backing::kShareable).value();
    region.grow(pages * kPage).value();
    return region;
}

std::vector<uint8_t> copy(const Region& region) { return {region.bytes().begin(), region.bytes().end()}; }

// A device that still has one write to do when it is told to let go.
class LateWriter : public Pin {
  public:
    LateWriter(uint8_t* at, uint8_t value, int& ended) : at_(at), value_(value), ended_(ended) {}
    ~LateWriter() override {
        *at_ = value_;
        ++ended_;
    }

  private:
    uint8_t* at_;
    uint8_t value_;
    int& ended_;
};

TEST(ForkTest, a_pin_ends_before_pages_are_remapped_and_what_it_wrote_until_then_is_in_both_branches) {
    int ended = 0;
    const int device = 0;
    for (const Backing backing : {Backing::kShareable, Backing::kAnonymous}) {
        Region parent = Region::reserve(16 * kPage, kPage, backing).value();
        parent.grow(4 * kPage).value();
        ended = 0;
        parent.pin(&device, std::make_unique<LateWriter>(parent.base() + kPage, 7, ended));
        EXPECT_NE(parent.pin_of(&device), nullptr);
        EXPECT_EQ(parent.pin_of(&ended), nullptr);
        parent.grow(8 * kPage).value();
        EXPECT_EQ(ended, 0);
        Region child = parent.fork().value();
        EXPECT_EQ(ended, 1);
        EXPECT_EQ(parent.pin_of(&device), nullptr);
        EXPECT_EQ(parent.base()[kPage], 7);
        EXPECT_EQ(child.base()[kPage], 7);
        // Each branch is pinned anew, and sees its own device's write alone.
        parent.pin(&device, std::make_unique<LateWriter>(parent.base(), 1, ended));
        child.pin(&device, std::make_unique<LateWriter>(child.base(), 2, ended));
        Region moved = std::move(parent);
        EXPECT_EQ(ended, 1);
        EXPECT_NE(moved.pin_of(&device), nullptr);
        moved.reset(kPage, kPage).value();
        EXPECT_EQ(ended, 2);
        EXPECT_EQ(moved.base()[0], 1);
        EXPECT_EQ(child.base()[0], 0);
        child = Region();
        EXPECT_EQ(ended, 3);
        EXPECT_EQ(moved.base()[0], 1);
    }
}

TEST(ForkTest, both_branches_have_the_bytes_and_neither_sees_the_others_writes) {
    Region parent = shareable(16, 8);
    const std::vector<uint8_t> content = random_bytes(8 * kPage, 1);
    std::copy(content.begin(), content.end(), parent.base());
    uint8_t* const base = parent.base();
    Region child = parent.fork().value();
    EXPECT_EQ(parent.base(), base);
    EXPECT_NE(child.base(), base);
    EXPECT_EQ(child.capacity(), parent.capacity());
    EXPECT_EQ(copy(parent), content);
    EXPECT_EQ(copy(child), content);
    parent.base()[0] ^= 1;
    child.base()[kPage] ^= 1;
    EXPECT_EQ(child.base()[0], content[0]);
    EXPECT_EQ(parent.base()[kPage], content[kPage]);
}

TEST(ForkTest, nothing_is_copied_until_somebody_writes) {
    Region parent = shareable(64, 64);
    std::fill(parent.bytes().begin(), parent.bytes().end(), uint8_t{3});
    Region child = parent.fork().value();
    EXPECT_EQ(std::count(child.bytes().begin(), child.bytes().end(), 3), static_cast<ptrdiff_t>(64 * kPage));
    const Footprint before = child.footprint().value();
    EXPECT_EQ(before.shared_bytes, before.resident_bytes);
    EXPECT_EQ(parent.footprint()->shared_bytes, parent.footprint()->resident_bytes);
    child.base()[5 * kPage] = 4;
    const Footprint after = child.footprint().value();
    EXPECT_EQ(after.resident_bytes - after.shared_bytes, kPage);
}

TEST(ForkTest, a_branch_outlives_the_one_it_came_from_and_can_be_forked_itself) {
    std::vector<uint8_t> want;
    Region last;
    {
        Region first = shareable(8, 4);
        first.base()[1] = 1;
        Region second = first.fork().value();
        second.base()[2] = 2;
        ASSERT_TRUE(second.grow(6 * kPage).ok());
        second.base()[5 * kPage] = 5;
        last = second.fork().value();
        want = copy(second);
        second.base()[3] = 3;
        first.base()[3] = 4;
    }
    EXPECT_EQ(last.size(), 6 * kPage);
    EXPECT_EQ(copy(last), want);
    EXPECT_EQ(last.base()[2], 2);
    EXPECT_EQ(last.base()[5 * kPage], 5);
}

TEST(ForkTest, an_anonymous_region_shares_what_was_written_when_it_is_first_forked) {
    Region parent = region_of(size_t{64} * kPage, 64 * kPage);
    std::fill_n(parent.base() + 3 * kPage, 8 * kPage, uint8_t{3});
    const std::vector<uint8_t> content = copy(parent);
    Region child = parent.fork().value();
    EXPECT_EQ(copy(parent), content);
    EXPECT_EQ(copy(child), content);
    for (const Region* region : {&parent, &child}) {  // one set of pages for both
        const Footprint footprint = region->footprint().value();
        EXPECT_EQ(footprint.shared_bytes, footprint.resident_bytes);
    }
    parent.base()[3 * kPage] = 4;
    child.base()[40 * kPage] = 5;
    EXPECT_EQ(child.base()[3 * kPage], 3);
    EXPECT_EQ(parent.base()[40 * kPage], 0);
    EXPECT_EQ(parent.footprint()->resident_bytes - parent.footprint()->shared_bytes, kPage);
    ASSERT_TRUE(parent.grow(64 * kPage).ok());
}

TEST(ForkTest, a_fork_shows_files_again_that_are_kept_open_and_copies_what_a_bare_descriptor_showed) {
    const std::vector<uint8_t> content = random_bytes(4 * kPage, 9);
    std::vector<uint8_t> want;
    Region child;
    {
        const TestFile bare(content);
        const TestFile other(content);
        const auto kept = std::make_shared<const OpenFile>(dup(other.fd()));
        Region parent = region_of(16 * kPage, 16 * kPage);
        parent.map_file(2 * kPage, bare.fd(), 0, 4 * kPage).value();
        parent.map_file(8 * kPage, kept, 0, 4 * kPage).value();
        parent.base()[3 * kPage] ^= 1;
        parent.base()[9 * kPage] ^= 1;
        parent.base()[15 * kPage] = 1;
        want = copy(parent);
        child = parent.fork().value();
        EXPECT_EQ(copy(parent), want);
        // The kept file is a file to both: its pages are no changes, but for the one that was written.
        for (const Region* region : {&parent, &child}) {
            std::vector<bool> changed(16);
            for (const PageRange& range : region->changed_pages({}).value()) {
                for (size_t at = range.offset; at < range.offset + range.length; at += kPage)
                    changed[at / kPage] = true;
            }
            EXPECT_TRUE(changed[9] && changed[15] && changed[3]);
            EXPECT_FALSE(changed[8] || changed[10] || changed[11]);
        }
        ASSERT_EQ(ftruncate(bare.fd(), 0), 0);  // nobody shows it any more
        EXPECT_FALSE(parent.failed());
        EXPECT_EQ(copy(parent), want);
        ASSERT_EQ(ftruncate(other.fd(), 0), 0);
        EXPECT_EQ(std::count(parent.base() + 8 * kPage, parent.base() + 9 * kPage, 0), static_cast<ptrdiff_t>(kPage));
        EXPECT_TRUE(parent.failed());
    }
    EXPECT_EQ(std::vector<uint8_t>(child.base(), child.base() + 8 * kPage),
              std::vector<uint8_t>(want.begin(), want.begin() + static_cast<ptrdiff_t>(8 * kPage)));
}

TEST(ForkTest, branches_keep_pages_that_were_swapped_out) {
    Region parent = region_of(256 * kPage, 256 * kPage);
    const std::vector<uint8_t> content = random_bytes(256 * kPage, 10);
    std::copy(content.begin(), content.end(), parent.base());
    Region child;
    for (int generation = 0; generation < 2; ++generation) {
        if (madvise(parent.base(), parent.size(), MADV_PAGEOUT) != 0) GTEST_SKIP() << "no MADV_PAGEOUT";
        if (generation == 0 && parent.footprint()->swapped_bytes == 0) {
            GTEST_SKIP() << "nothing was swapped out: the system has no swap";
        }
        child = parent.fork().value();
        EXPECT_EQ(copy(child), content);
        EXPECT_EQ(copy(parent), content);
    }
}

TEST(ForkTest, a_region_whose_file_is_gone_refuses) {
    const TestFile file(random_bytes(2 * kPage, 2));
    Region region = shareable(4, 4);
    region.map_file(kPage, file.fd(), 0, 2 * kPage).value();
    ASSERT_EQ(ftruncate(file.fd(), 0), 0);
    region.base()[kPage] = 1;
    EXPECT_EQ(region.fork().error().code, ErrorCode::kIo);
}

TEST(ForkTest, changed_pages_of_a_live_region_name_what_was_written) {
    Region region = shareable(32, 32);
    region.base()[3 * kPage] = 1;
    region.base()[4 * kPage] = 1;
    EXPECT_EQ(region.changed_pages({}).value(), (std::vector<PageRange>{{3 * kPage, 2 * kPage}}));
    Region child = region.fork().value();
    child.base()[9 * kPage] = 1;
    // The mark of both is what they were before the first write: zeros.
    EXPECT_EQ(child.changed_pages({}).value(), (std::vector<PageRange>{{3 * kPage, 2 * kPage}, {9 * kPage, kPage}}));
    // The other branch's page counts here too: shared memory has it since somebody touched it. Untouched pages do not.
    const std::vector<PageRange> changed = region.changed_pages({}).value();
    for (const PageRange& range : changed) {
        EXPECT_TRUE(range == (PageRange{3 * kPage, 2 * kPage}) || range == (PageRange{9 * kPage, kPage}));
    }
    EXPECT_EQ(changed.front(), (PageRange{3 * kPage, 2 * kPage}));
}

// Any sequence of writes, growth, maps, resets and forks leaves in every branch what it leaves in a plain vector.
TEST(ForkTest, branches_behave_like_plain_vectors_under_random_operations) {
    constexpr size_t kPages = 16;
    const std::vector<uint8_t> content = random_bytes(kPages * kPage, 3);
    const TestFile file(content);
    const auto kept = std::make_shared<const OpenFile>(dup(file.fd()));
    struct Branch {
        Region region;
        std::vector<uint8_t> model;
    };
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        std::mt19937_64 rng(seed);
        std::vector<Branch> branches;
        const Backing backing = seed % 2 == 0 ? Backing::kShareable : Backing::kAnonymous;
        branches.push_back({Region::reserve(kPages * kPage, kPage, backing).value(), std::vector<uint8_t>(kPage, 0)});
        branches.back().region.grow(kPage).value();
        for (int step = 0; step < 150; ++step) {
            Branch& branch = branches[rng() % branches.size()];
            const size_t pages = branch.model.size() / kPage;
            const size_t page = rng() % pages;
            const size_t count = 1 + rng() % (pages - page);
            const auto at = branch.model.begin() + static_cast<ptrdiff_t>(page * kPage);
            switch (rng() % 9) {
                case 0: {
                    const size_t size = (1 + rng() % kPages) * kPage;
                    ASSERT_TRUE(branch.region.grow(size).ok());
                    if (size > branch.model.size()) branch.model.resize(size);
                    break;
                }
                case 1:
                    ASSERT_TRUE(branch.region.map_file(page * kPage, file.fd(), page * kPage, count * kPage).ok());
                    std::copy_n(content.begin() + static_cast<ptrdiff_t>(page * kPage), count * kPage, at);
                    break;
                case 8:
                    ASSERT_TRUE(branch.region.map_file(page * kPage, kept, page * kPage, count * kPage).ok());
                    std::copy_n(content.begin() + static_cast<ptrdiff_t>(page * kPage), count * kPage, at);
                    break;
                case 2:
                    ASSERT_TRUE(branch.region.reset(page * kPage, count * kPage).ok());
                    std::fill_n(at, count * kPage, uint8_t{0});
                    break;
                case 3:
                    if (branches.size() > 6) branches.erase(branches.begin() + static_cast<ptrdiff_t>(rng() % 4));
                    {
                        Branch& from = branches[rng() % branches.size()];
                        branches.push_back({from.region.fork().value(), from.model});
                    }
                    break;
                default:
                    for (int i = 0; i < 8; ++i) {
                        const size_t byte = page * kPage + rng() % (count * kPage);
                        branch.region.base()[byte] = branch.model[byte] = static_cast<uint8_t>(rng());
                    }
            }
            for (const Branch& b : branches) ASSERT_EQ(copy(b.region) == b.model, true) << seed << " step " << step;
        }
    }
    EXPECT_EQ(file.bytes(content.size()), content);
}

TEST(HoldTest, a_held_region_grows_and_is_free_again_when_the_last_hold_ends) {
    Region region = shareable(8, 4);
    {
        const Region::Hold first = region.hold();
        EXPECT_TRUE(region.held());
        { const Region::Hold second = region.hold(); }
        EXPECT_TRUE(region.held());
        EXPECT_TRUE(region.grow(8 * kPage).ok());
    }
    EXPECT_FALSE(region.held());
    EXPECT_TRUE(region.fork().ok());
}

using HoldDeathTest = ::testing::Test;

TEST(HoldDeathTest, forking_remapping_moving_or_ending_a_held_region_is_a_bug) {
    const TestFile file(random_bytes(kPage, 4));
    Region region = shareable(2, 2);
    const Region::Hold hold = region.hold();
    EXPECT_DEATH(static_cast<void>(region.fork()), "CHECK");
    EXPECT_DEATH(static_cast<void>(region.map_file(0, file.fd(), 0, kPage)), "CHECK");
    EXPECT_DEATH(static_cast<void>(region.reset(0, kPage)), "CHECK");
    EXPECT_DEATH(Region moved = std::move(region), "CHECK");
}

// What a driver does: it pins the pages and writes to them by their physical address.
TEST(HoldTest, a_region_with_pinned_pages_is_released_and_forked_and_neither_branch_sees_the_others_writes) {
    Region parent = shareable(8, 8);
    std::fill(parent.bytes().begin(), parent.bytes().end(), uint8_t{1});
    PinnedDevice device;
    if (!device.ok()) GTEST_SKIP() << device.problem();
    {
        const Region::Hold hold = parent.hold();
        if (!device.pin(parent.bytes())) GTEST_SKIP() << device.problem();
        ASSERT_TRUE(device.write(parent.base() + kPage, kPage, 2)) << device.problem();
        EXPECT_EQ(parent.base()[kPage], 2);
        device.unpin();
    }
    Region child = parent.fork().value();
    EXPECT_EQ(child.base()[kPage], 2);
    {
        const Region::Hold hold = parent.hold();
        ASSERT_TRUE(device.pin(parent.bytes())) << device.problem();
        ASSERT_TRUE(device.write(parent.base(), 2 * kPage, 3)) << device.problem();
        parent.base()[2 * kPage] = 4;
        device.unpin();
    }
    EXPECT_EQ(parent.base()[0], 3);
    EXPECT_EQ(parent.base()[kPage], 3);
    EXPECT_EQ(child.base()[0], 1);
    EXPECT_EQ(child.base()[kPage], 2);
    EXPECT_EQ(child.base()[2 * kPage], 1);
    {
        const Region::Hold hold = child.hold();
        ASSERT_TRUE(device.pin(child.bytes())) << device.problem();
        ASSERT_TRUE(device.write(child.base() + 4 * kPage, kPage, 5)) << device.problem();
        device.unpin();
    }
    EXPECT_EQ(child.base()[4 * kPage], 5);
    EXPECT_EQ(parent.base()[4 * kPage], 1);
}

}  // namespace
}  // namespace driftwood::memory
