// Which pages changed since they were mapped: every way of finding out gives the same, right answer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <set>

#include "memory/region.h"
#include "memory/test_file.h"

namespace driftwood::memory {
namespace {

const size_t kPage = page_size();

std::set<size_t> pages_of(const std::vector<PageRange>& ranges) {
    std::set<size_t> pages;
    size_t end = 0;
    for (const PageRange& range : ranges) {
        EXPECT_EQ(range.offset % kPage + range.length % kPage, 0u);
        EXPECT_GT(range.length, 0u);
        EXPECT_TRUE(pages.empty() || range.offset > end) << "ranges ascend and do not touch";
        end = range.offset + range.length;
        for (size_t at = range.offset; at < end; at += kPage) pages.insert(at / kPage);
    }
    return pages;
}

class ChangedPagesTest : public ::testing::TestWithParam<ChangeProbe> {
  protected:
    void SetUp() override {
        const auto tried = region_of(kPage, kPage).changed_pages({}, GetParam());
        if (!tried.ok() && tried.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << tried.error().message;
        ASSERT_TRUE(tried.ok()) << tried.error().message;
    }
    static std::set<size_t> changed(const Region& region, std::span<const uint8_t> before) {
        const auto ranges = region.changed_pages(before, GetParam());
        EXPECT_TRUE(ranges.ok()) << ranges.error().message;
        return pages_of(ranges.value());
    }
};

std::string probe_name(const ::testing::TestParamInfo<ChangeProbe>& info) {
    switch (info.param) {
        case ChangeProbe::kBest: return "best";
        case ChangeProbe::kScan: return "scan";
        case ChangeProbe::kPageMap: return "page_map";
        case ChangeProbe::kCompare: break;
    }
    return "compare";
}

INSTANTIATE_TEST_SUITE_P(Probes, ChangedPagesTest,
                         ::testing::Values(ChangeProbe::kBest, ChangeProbe::kScan, ChangeProbe::kPageMap,
                                           ChangeProbe::kCompare),
                         probe_name);

TEST_P(ChangedPagesTest, names_what_was_written_under_a_file_map_and_not_what_was_read) {
    const std::vector<uint8_t> content = random_bytes(64 * kPage, 1);
    const TestFile file(content);
    Region region = region_of(64 * kPage, 64 * kPage);
    region.map_file(0, file.fd(), 0, 64 * kPage).value();
    EXPECT_EQ(std::memcmp(region.base(), content.data(), content.size()), 0);  // touches every page
    EXPECT_TRUE(changed(region, content).empty());
    for (const size_t page : {0, 1, 7, 62, 63}) region.base()[page * kPage + 17] ^= 1;
    EXPECT_EQ(changed(region, content), (std::set<size_t>{0, 1, 7, 62, 63}));
}

TEST_P(ChangedPagesTest, includes_anonymous_pages_that_are_no_longer_zero) {
    Region region = region_of(16 * kPage, 16 * kPage);
    ASSERT_EQ(madvise(region.base(), region.size(), MADV_NOHUGEPAGE), 0);
    EXPECT_TRUE(changed(region, {}).empty());
    region.base()[3 * kPage] = 1;
    region.base()[15 * kPage] = 1;
    EXPECT_EQ(changed(region, {}), (std::set<size_t>{3, 15}));
}

TEST_P(ChangedPagesTest, mapping_the_new_image_is_the_next_mark) {
    const std::vector<uint8_t> content = random_bytes(8 * kPage, 2);
    const TestFile file(content);
    Region region = region_of(8 * kPage, 8 * kPage);
    region.map_file(0, file.fd(), 0, 8 * kPage).value();
    region.base()[5 * kPage] ^= 1;
    const std::vector<uint8_t> now(region.bytes().begin(), region.bytes().end());
    const TestFile image(now);
    region.map_file(0, image.fd(), 0, 8 * kPage).value();
    EXPECT_TRUE(changed(region, now).empty());
    region.base()[2 * kPage] ^= 1;
    EXPECT_EQ(changed(region, now), (std::set<size_t>{2}));
}

TEST_P(ChangedPagesTest, more_changes_than_one_answer_of_the_kernel_holds) {
    constexpr size_t kPages = 4096;
    const TestFile file(std::vector<uint8_t>(kPages * kPage, 3));
    Region region = region_of(kPages * kPage, kPages * kPage);
    region.map_file(0, file.fd(), 0, kPages * kPage).value();
    std::set<size_t> want;
    for (size_t page = 1; page < kPages; page += 2) {  // 2048 ranges
        region.base()[page * kPage] = 4;
        want.insert(page);
    }
    EXPECT_EQ(changed(region, std::vector<uint8_t>(kPages * kPage, 3)), want);
}

TEST_P(ChangedPagesTest, agrees_with_a_plain_model_under_random_operations) {
    constexpr size_t kPages = 32;
    const std::vector<uint8_t> content = random_bytes(kPages * kPage, 5);
    const TestFile file(content);
    for (uint64_t seed = 1; seed <= 6; ++seed) {
        std::mt19937_64 rng(seed);
        Region region = region_of(kPages * kPage, kPages * kPage);
        ASSERT_EQ(madvise(region.base(), region.size(), MADV_NOHUGEPAGE), 0);
        std::vector<uint8_t> before(kPages * kPage, 0);
        std::set<size_t> want;
        for (int step = 0; step < 100; ++step) {
            const size_t page = rng() % kPages;
            const size_t count = 1 + rng() % (kPages - page);
            const size_t kind = rng() % 8;
            if (kind < 2) {
                const size_t from = rng() % (kPages - count + 1);
                region.map_file(page * kPage, file.fd(), from * kPage, count * kPage).value();
                std::memcpy(before.data() + page * kPage, content.data() + from * kPage, count * kPage);
            } else if (kind == 2) {
                region.reset(page * kPage, count * kPage).value();
                std::memset(before.data() + page * kPage, 0, count * kPage);
            } else {
                const size_t at = page * kPage + rng() % kPage;
                region.base()[at] = static_cast<uint8_t>(~before[at]);
                want.insert(page);
                continue;
            }
            want.erase(want.lower_bound(page), want.lower_bound(page + count));
            ASSERT_EQ(changed(region, before), want) << "seed " << seed << " step " << step;
        }
        EXPECT_EQ(changed(region, before), want);
    }
}

TEST_P(ChangedPagesTest, keeps_pages_that_were_swapped_out) {
    const std::vector<uint8_t> content = random_bytes(256 * kPage, 6);
    const TestFile file(content);
    Region region = region_of(256 * kPage, 256 * kPage);
    region.map_file(0, file.fd(), 0, 256 * kPage).value();
    std::set<size_t> want;
    for (size_t page = 0; page < 256; page += 3) {
        region.base()[page * kPage] ^= 1;
        want.insert(page);
    }
    if (madvise(region.base(), region.size(), MADV_PAGEOUT) != 0) GTEST_SKIP() << "no MADV_PAGEOUT";
    if (const auto footprint = region.footprint(); !footprint.ok() || footprint->swapped_bytes == 0) {
        GTEST_SKIP() << "nothing was swapped out: the system has no swap";
    }
    EXPECT_EQ(changed(region, content), want);
}

TEST(ChangedPagesCompareTest, what_lies_behind_the_end_of_the_former_bytes_counts_as_zeros) {
    Region region = region_of(3 * kPage, 3 * kPage);
    const std::vector<uint8_t> before(kPage + 100, 0);
    EXPECT_TRUE(region.changed_pages(before, ChangeProbe::kCompare).value().empty());
    region.base()[kPage + 100] = 1;
    region.base()[2 * kPage] = 1;
    EXPECT_EQ(region.changed_pages(before, ChangeProbe::kCompare).value(),
              (std::vector<PageRange>{{kPage, 2 * kPage}}));
}

TEST(ChangedPagesCompareTest, an_empty_region_has_changed_nowhere) {
    const Region region;
    EXPECT_TRUE(region.changed_pages({}).value().empty());
}

}  // namespace
}  // namespace driftwood::memory
