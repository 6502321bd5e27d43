// What the kernel says about pages, read for pages of 4, 16 and 64 KiB, those in swap included: from recorded words,
// so that this is checked on machines that have neither such pages nor swap.
#include "memory/page_map.h"

#include <gtest/gtest.h>

#include <vector>

namespace driftwood::memory {
namespace {

// Words of /proc/self/pagemap as Linux 6.18 gave them for private views of a file and for anonymous memory, before and
// after MADV_PAGEOUT with a swap file.
constexpr uint64_t kNever = 0;                          // not touched, or shared memory's and in swap
constexpr uint64_t kOwn = 0x8100'0000'0019'C093;        // present, written
constexpr uint64_t kOwnInSwap = 0x4000'0000'0000'0020;  // written, now in swap
constexpr uint64_t kOfFile = 0xA100'0000'002C'8139;     // present, the file's own page
constexpr uint64_t kZeros = 0x8000'0000'0000'3B34;      // anonymous and only read: everybody's page of zeros
// Words that the format has and this machine did not show.
constexpr uint64_t kSharedInSwap = 0x6000'0000'0000'0040;  // a file's or shared memory's, on its way
constexpr uint64_t kOwnSoftDirty = 0x8180'0000'0019'C094;  // present, written since soft-dirty was cleared
constexpr uint64_t kGuarded = 0x0400'0000'0000'0000;       // a guard region: nothing there

class PageMapOf : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(KiB, PageMapOf, ::testing::Values(4, 16, 64),
                         [](const auto& info) { return std::to_string(info.param); });

TEST_P(PageMapOf, names_pages_that_are_the_processs_own_wherever_they_are) {
    const size_t page = GetParam() * 1024;
    const std::vector<uint64_t> entries = {kOwn,          kOwnInSwap, kOfFile,       kNever,  kOwnInSwap,
                                           kSharedInSwap, kGuarded,   kOwnSoftDirty, kOfFile, kZeros};
    std::vector<PageRange> ranges;
    add_private_pages(entries, 0, page, ranges);
    EXPECT_EQ(ranges, (std::vector<PageRange>{{0, 2 * page}, {4 * page, page}, {7 * page, page}, {9 * page, page}}));
    // The next piece of the page map goes on where this one ended.
    add_private_pages(std::vector<uint64_t>{kOwn, kNever, kOwn}, entries.size() * page, page, ranges);
    EXPECT_EQ(ranges.size(), 5u);
    EXPECT_EQ(ranges[3], (PageRange{9 * page, 2 * page}));
    EXPECT_EQ(ranges[4], (PageRange{12 * page, page}));
}

TEST_P(PageMapOf, counts_bytes_where_they_are) {
    const size_t page = GetParam() * 1024;
    Footprint footprint;
    add_footprint(std::vector<uint64_t>{kOwn, kOwnSoftDirty, kOwnInSwap, kOfFile, kNever, kSharedInSwap, kGuarded},
                  page, footprint);
    EXPECT_EQ(footprint.resident_bytes, 3 * page);
    EXPECT_EQ(footprint.shared_bytes, page);
    EXPECT_EQ(footprint.swapped_bytes, page);
}

// Under an emulator whose pages are larger than its kernel's.
TEST_P(PageMapOf, several_entries_for_one_page_are_joined) {
    const size_t page = GetParam() * 1024;
    std::vector<uint64_t> entries = {kNever, kNever,  kOfFile,       kOfFile, kOfFile, kOwn,
                                     kNever, kOfFile, kSharedInSwap, kNever,  kNever,  kOwnInSwap};
    const std::span<const uint64_t> joined = join_entries(entries, 2);
    ASSERT_EQ(joined.size(), 6u);
    std::vector<PageRange> ranges;
    add_private_pages(joined, 0, page, ranges);
    EXPECT_EQ(ranges, (std::vector<PageRange>{{2 * page, page}, {5 * page, page}}));
    Footprint footprint;
    add_footprint(joined, page, footprint);
    EXPECT_EQ(footprint.resident_bytes, 3 * page);
    EXPECT_EQ(footprint.shared_bytes, 2 * page);
    EXPECT_EQ(footprint.swapped_bytes, page);
}

TEST_P(PageMapOf, compares_page_by_page) {
    const size_t page = GetParam() * 1024;
    std::vector<uint8_t> before(3 * page + 100, 1);
    std::vector<uint8_t> now = before;
    now.resize(6 * page, 0);
    EXPECT_TRUE(different_pages(now, before, page).empty());
    now[page] = 2;
    now[2 * page - 1] = 2;
    now[3 * page + 100] = 2;  // behind the end of what was
    now[6 * page - 1] = 2;
    EXPECT_EQ(different_pages(now, before, page),
              (std::vector<PageRange>{{page, page}, {3 * page, page}, {5 * page, page}}));
}

}  // namespace
}  // namespace driftwood::memory
