#include "memory/region.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "memory/test_file.h"

namespace driftwood::memory {
namespace {

static_assert(!std::is_copy_constructible_v<Region> && !std::is_copy_assignable_v<Region>);

const size_t kPage = page_size();

TEST(PageSizeTest, is_the_systems_and_rounding_reaches_the_next_page) {
    EXPECT_EQ(kPage, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    // A run that ctest starts for pages of another size has them.
    const char* const wanted = std::getenv("DRIFTWOOD_TEST_PAGE_BYTES");
    EXPECT_EQ(std::to_string(kPage), wanted == nullptr ? std::to_string(kPage) : wanted);
    EXPECT_EQ(round_up_to_page(0), 0u);
    EXPECT_EQ(round_up_to_page(1), kPage);
    EXPECT_EQ(round_up_to_page(kPage), kPage);
    EXPECT_EQ(round_up_to_page(kPage + 1), 2 * kPage);
}

TEST(RegionTest, reserves_addresses_without_committing_any) {
    const Region region = Region::reserve(3 * kPage - 1, 1).value();
    EXPECT_EQ(region.capacity(), 3 * kPage);
    EXPECT_EQ(region.size(), 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(region.base()) % kPage, 0u);
    EXPECT_EQ(region.resident_bytes().value(), 0u);
}

TEST(RegionTest, never_moves_while_it_grows_and_new_bytes_are_zero) {
    Region region = Region::reserve(size_t{1} << 32, kPage).value();
    uint8_t* const base = region.base();
    for (size_t pages = 1; pages <= 64; pages *= 2) {
        const size_t before = region.size();
        ASSERT_TRUE(region.grow(pages * kPage).ok());
        ASSERT_EQ(region.base(), base);
        ASSERT_EQ(region.size(), pages * kPage);
        ASSERT_TRUE(all_zero(region.bytes().subspan(before)));
        std::fill(region.bytes().begin() + static_cast<ptrdiff_t>(before), region.bytes().end(), uint8_t{0xA5});
    }
    EXPECT_EQ(std::count(region.bytes().begin(), region.bytes().end(), 0xA5), static_cast<ptrdiff_t>(64 * kPage));
}

TEST(RegionTest, growing_to_less_changes_nothing_and_odd_sizes_round_up) {
    Region region = region_of(4 * kPage, 2 * kPage);
    EXPECT_TRUE(region.grow(1).ok());
    EXPECT_EQ(region.size(), 2 * kPage);
    EXPECT_TRUE(region.grow(2 * kPage + 1).ok());
    EXPECT_EQ(region.size(), 3 * kPage);
}

TEST(RegionTest, refuses_to_grow_beyond_its_capacity) {
    Region region = region_of(2 * kPage, kPage);
    for (const size_t size : {2 * kPage + 1, std::numeric_limits<size_t>::max()}) {
        const Result<void> grown = region.grow(size);
        ASSERT_FALSE(grown.ok());
        EXPECT_EQ(grown.error().code, ErrorCode::kLimit);
        EXPECT_EQ(region.size(), kPage);
    }
}

TEST(RegionTest, refuses_a_reservation_beyond_the_address_space) {
    constexpr size_t kMost = std::numeric_limits<size_t>::max();
    EXPECT_EQ(Region::reserve(kMost).error().code, ErrorCode::kLimit);
    EXPECT_EQ(Region::reserve(kMost / 2 + 1, kMost / 2 + 1).error().code, ErrorCode::kLimit);
    EXPECT_EQ(Region::reserve(size_t{1} << 62).error().code, ErrorCode::kLimit);
}

TEST(RegionTest, a_private_file_map_shows_the_file_and_never_writes_to_it) {
    const std::vector<uint8_t> content = random_bytes(3 * kPage, 1);
    const TestFile file(content);
    Region region = region_of(4 * kPage, 4 * kPage);
    region.base()[kPage] = 1;
    ASSERT_TRUE(region.map_file(kPage, file.fd(), kPage, 2 * kPage).ok());
    EXPECT_TRUE(all_zero(region.bytes().first(kPage)));
    EXPECT_TRUE(std::equal(content.begin() + static_cast<ptrdiff_t>(kPage), content.end(), region.base() + kPage));
    std::fill_n(region.base() + kPage, 2 * kPage, uint8_t{7});
    EXPECT_EQ(file.bytes(content.size()), content);
}

TEST(RegionTest, a_map_outlives_the_descriptor_it_was_made_from) {
    const std::vector<uint8_t> content = random_bytes(kPage, 2);
    Region region = region_of(kPage, kPage);
    {
        const TestFile file(content);
        ASSERT_TRUE(region.map_file(0, file.fd(), 0, kPage).ok());
    }
    EXPECT_TRUE(std::equal(content.begin(), content.end(), region.base()));
}

TEST(RegionTest, refuses_unaligned_outside_or_short_file_ranges_and_keeps_its_bytes) {
    const TestFile file(random_bytes(2 * kPage - 1, 3));
    Region region = region_of(8 * kPage, 4 * kPage);
    region.base()[0] = 42;
    constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
    const uint64_t last_page = kHuge / kPage * kPage;
    struct Case {
        size_t offset;
        uint64_t file_offset;
        size_t length;
    };
    const std::vector<Case> cases = {
        {1, 0, kPage},              // unaligned offset
        {0, 1, kPage},              // unaligned file offset
        {0, 0, kPage + 1},          // unaligned length
        {4 * kPage, 0, kPage},      // beyond size(), inside capacity()
        {3 * kPage, 0, 2 * kPage},  // across size()
        {last_page, 0, kPage},      // the sum overflows
        {0, 0, 2 * kPage},          // the file's last page is one byte short
        {0, 2 * kPage, kPage},      // behind the file
        {0, last_page, kPage},      // the file sum overflows
    };
    for (const Case& c : cases) {
        const Result<void> mapped = region.map_file(c.offset, file.fd(), c.file_offset, c.length);
        ASSERT_FALSE(mapped.ok()) << c.offset << " " << c.file_offset << " " << c.length;
        EXPECT_EQ(mapped.error().code, ErrorCode::kInvalidArgument);
    }
    EXPECT_EQ(region.map_file(0, -1, 0, kPage).error().code, ErrorCode::kIo);
    EXPECT_EQ(region.base()[0], 42);
}

TEST(RegionTest, a_descriptor_that_cannot_be_mapped_is_an_error_and_leaves_no_hole) {
    const TestFile file(random_bytes(kPage, 4));
    const std::string path = "/proc/self/fd/" + std::to_string(file.fd());
    const int write_only = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(write_only, 0);
    Region region = region_of(kPage, kPage);
    EXPECT_EQ(region.map_file(0, write_only, 0, kPage).error().code, ErrorCode::kIo);
    close(write_only);
    region.base()[0] = 1;
    EXPECT_EQ(region.base()[0], 1);
}

TEST(RegionTest, reset_gives_zeros_over_written_and_over_mapped_pages) {
    const TestFile file(random_bytes(2 * kPage, 5));
    Region region = region_of(4 * kPage, 4 * kPage);
    std::fill(region.bytes().begin(), region.bytes().end(), uint8_t{9});
    ASSERT_TRUE(region.map_file(2 * kPage, file.fd(), 0, 2 * kPage).ok());
    ASSERT_TRUE(region.reset(kPage, 2 * kPage).ok());
    EXPECT_EQ(region.base()[kPage - 1], 9);
    EXPECT_TRUE(all_zero(region.bytes().subspan(kPage, 2 * kPage)));
    EXPECT_EQ(region.base()[3 * kPage], file.bytes(2 * kPage)[kPage]);
    region.base()[kPage] = 1;
    EXPECT_FALSE(region.reset(1, kPage).ok());
    EXPECT_FALSE(region.reset(0, kPage - 1).ok());
    EXPECT_FALSE(region.reset(0, 5 * kPage).ok());
}

TEST(RegionTest, counts_only_resident_pages) {
    const TestFile file(random_bytes(4 * kPage, 6));
    Region region = region_of(size_t{8192} * kPage, size_t{8192} * kPage);  // more than one read of the page map
    ASSERT_EQ(madvise(region.base(), region.size(), MADV_NOHUGEPAGE), 0);   // else one touch brings many pages
    EXPECT_EQ(region.resident_bytes().value(), 0u);
    for (const size_t page : {0, 3, 5000, 8191}) region.base()[page * kPage] = 1;
    EXPECT_EQ(region.resident_bytes().value(), 4 * kPage);
    ASSERT_TRUE(region.map_file(0, file.fd(), 0, 4 * kPage).ok());
    EXPECT_EQ(region.resident_bytes().value(), 2 * kPage);
    static_cast<void>(*const_cast<volatile uint8_t*>(region.base() + kPage));  // brings pages of the file
    region.base()[0] = 1;                                                      // and one of its own
    const Footprint footprint = region.footprint().value();
    EXPECT_GE(footprint.shared_bytes, kPage);
    EXPECT_LE(footprint.shared_bytes, 3 * kPage);
    EXPECT_EQ(footprint.resident_bytes - footprint.shared_bytes, 3 * kPage);
    EXPECT_EQ(footprint.swapped_bytes, 0u);
    ASSERT_TRUE(region.reset(0, region.size()).ok());
    EXPECT_EQ(region.resident_bytes().value(), 0u);
}

TEST(RegionTest, contains_only_what_lies_inside_its_size) {
    Region region = region_of(4 * kPage, 2 * kPage);
    const uint8_t* base = region.base();
    EXPECT_TRUE(region.contains(base, 2 * kPage));
    EXPECT_TRUE(region.contains(base + 2 * kPage, 0));
    EXPECT_FALSE(region.contains(base, 2 * kPage + 1));
    EXPECT_FALSE(region.contains(base - 1, 1));
    EXPECT_FALSE(region.contains(base + 2 * kPage, 1));
    EXPECT_FALSE(region.contains(base + 1, std::numeric_limits<size_t>::max()));
}

TEST(RegionTest, moving_hands_the_mapping_over_and_frees_what_was_held) {
    Region first = region_of(2 * kPage, kPage);
    uint8_t* const base = first.base();
    base[0] = 5;
    Region second = std::move(first);
    EXPECT_EQ(first.base(), nullptr);  // NOLINT(bugprone-use-after-move): the moved-from state is what is tested
    EXPECT_EQ(first.size() + first.capacity(), 0u);
    EXPECT_EQ(second.base(), base);
    Region third = region_of(kPage, kPage);
    void* const old = third.base();
    third = std::move(second);
    EXPECT_EQ(third.base()[0], 5);
    EXPECT_NE(msync(old, kPage, MS_ASYNC), 0);  // no longer mapped
    Region& alias = third;
    third = std::move(alias);
    EXPECT_EQ(third.base()[0], 5);
}

TEST(RegionTest, destroying_unmaps_reservation_and_guard) {
    uint8_t* base = nullptr;
    {
        const Region region = Region::reserve(2 * kPage, 2 * kPage).value();
        base = region.base();
        ASSERT_EQ(msync(base, 4 * kPage, MS_ASYNC), 0);
    }
    for (size_t page = 0; page < 4; ++page) EXPECT_NE(msync(base + page * kPage, kPage, MS_ASYNC), 0);
}

TEST(RegionTest, an_empty_region_refuses_everything_gently) {
    Region region;
    EXPECT_TRUE(region.grow(0).ok());
    EXPECT_FALSE(region.grow(1).ok());
    EXPECT_TRUE(region.reset(0, 0).ok());
    EXPECT_FALSE(region.reset(0, kPage).ok());
    EXPECT_EQ(region.resident_bytes().value(), 0u);
    EXPECT_TRUE(Region::reserve(0).ok());
}

using RegionDeathTest = ::testing::Test;

TEST(RegionDeathTest, uncommitted_bytes_and_the_guard_fault) {
    Region region = Region::reserve(2 * kPage, kPage).value();
    region.grow(kPage).value();
    volatile uint8_t* bytes = region.base();
    bytes[kPage - 1] = 1;
    EXPECT_DEATH(bytes[kPage] = 1, "");
    EXPECT_DEATH(bytes[2 * kPage] = 1, "");
    EXPECT_DEATH(static_cast<void>(bytes[3 * kPage - 1]), "");
}

size_t mappings_of_this_process() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    size_t count = 0;
    while (std::getline(maps, line)) ++count;
    return count;
}

TEST(RegionTest, ten_thousand_guests_stay_far_below_the_limit_of_mappings) {
    const TestFile image(random_bytes(4 * kPage, 8));
    const size_t before = mappings_of_this_process();
    if (before == 0) GTEST_SKIP() << "this system does not list its mappings";
    constexpr size_t kGuests = 10'000;
    constexpr size_t kLinuxDefaultMaxMapCount = 65'530;
    std::vector<Region> guests;
    for (size_t i = 0; i < kGuests; ++i) {
        auto region = Region::reserve(size_t{4} << 30, size_t{32} << 20);
        if (!region.ok() && i == 0) GTEST_SKIP() << region.error().message;  // a sanitizer leaves no such room
        ASSERT_TRUE(region.ok()) << i << ": " << region.error().message;
        guests.push_back(std::move(*region));
        guests.back().grow(4 * kPage).value();
        guests.back().map_file(0, image.fd(), 0, 4 * kPage).value();
        guests.back().base()[kPage] ^= 1;
        guests.back().grow(8 * kPage).value();
    }
    const uint64_t claimed = budget_used().mappings;
    EXPECT_LE(claimed, kGuests * kMappingsPerGuest);
    EXPECT_LE(claimed, budget_limit().mappings) << "room for more";
    const size_t used = mappings_of_this_process() - before;
    EXPECT_LE(used, claimed + 100) << "what is claimed is what is there";
    constexpr size_t kOthers = 100;  // what the allocator of the C library takes and keeps
    EXPECT_LE(used, kGuests * kMappingsPerGuest + kOthers);
    EXPECT_LT(kGuests * kMappingsPerGuest, kLinuxDefaultMaxMapCount / 2);
    guests.clear();
    EXPECT_LE(mappings_of_this_process(), before + kOthers);
}

// Any sequence of operations leaves the same bytes as the same sequence on a plain vector.
TEST(RegionTest, behaves_like_a_plain_vector_under_random_operations) {
    constexpr size_t kPages = 24;
    const std::vector<uint8_t> content = random_bytes(kPages * kPage, 7);
    const TestFile file(content);
    for (uint64_t seed = 1; seed <= 8; ++seed) {
        std::mt19937_64 rng(seed);
        Region region = Region::reserve(kPages * kPage, kPage).value();
        std::vector<uint8_t> model;
        for (int step = 0; step < 200; ++step) {
            const size_t pages = model.size() / kPage;
            const size_t offset = pages == 0 ? 0 : rng() % pages * kPage;
            const size_t length = pages == 0 ? 0 : (1 + rng() % (pages - offset / kPage)) * kPage;
            const auto at = model.begin() + static_cast<ptrdiff_t>(offset);
            switch (rng() % 4) {
                case 0: {
                    const size_t size = rng() % (kPages + 2) * kPage;
                    ASSERT_EQ(region.grow(size).ok(), size <= kPages * kPage);
                    if (size <= kPages * kPage && size > model.size()) model.resize(size);
                    break;
                }
                case 1: {
                    const size_t from = rng() % kPages * kPage;
                    const bool fits = from + length <= content.size();
                    ASSERT_EQ(region.map_file(offset, file.fd(), from, length).ok(), fits);
                    if (fits) std::copy_n(content.begin() + static_cast<ptrdiff_t>(from), length, at);
                    break;
                }
                case 2:
                    ASSERT_TRUE(region.reset(offset, length).ok());
                    std::fill_n(at, length, uint8_t{0});
                    break;
                default:
                    if (length == 0) break;
                    for (int i = 0; i < 16; ++i) {
                        const size_t byte = offset + rng() % length;
                        region.base()[byte] = model[byte] = static_cast<uint8_t>(rng());
                    }
            }
            ASSERT_EQ(region.size(), model.size());
            ASSERT_TRUE(std::equal(model.begin(), model.end(), region.base())) << "seed " << seed << " step " << step;
        }
    }
    EXPECT_EQ(file.bytes(content.size()), content);
}

}  // namespace
}  // namespace driftwood::memory
