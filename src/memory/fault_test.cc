// A file that is truncated under a map fails what shows it, whoever touches it, and nothing else.
#include "memory/fault.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <thread>
#include <vector>

#include "memory/region.h"
#include "memory/test_file.h"

namespace driftwood::memory {
namespace {

const size_t kPage = page_size();

uint8_t touch(const uint8_t* at) { return *const_cast<const volatile uint8_t*>(at); }

Region mapped(const TestFile& file, size_t pages) {
    Region region = region_of(pages * kPage, pages * kPage);
    region.map_file(0, file.fd(), 0, pages * kPage).value();
    return region;
}

TEST(FaultTest, a_truncated_file_fails_its_region_and_reads_as_zeros) {
    const TestFile file(random_bytes(8 * kPage, 1));
    Region region = mapped(file, 8);
    region.base()[0] = 7;
    ASSERT_EQ(ftruncate(file.fd(), static_cast<off_t>(2 * kPage)), 0);
    EXPECT_FALSE(region.failed());
    EXPECT_EQ(touch(region.base() + 5 * kPage), 0);
    EXPECT_TRUE(region.failed());
    const auto intact = region.check_intact(0, region.size());
    ASSERT_FALSE(intact.ok());
    EXPECT_EQ(intact.error().code, ErrorCode::kIo);
    EXPECT_TRUE(all_zero(region.bytes()));
    EXPECT_EQ(region.changed_pages({}).error().code, ErrorCode::kIo);
}

TEST(FaultTest, a_write_faults_too_and_goes_on) {
    const TestFile file(random_bytes(4 * kPage, 2));
    Region region = mapped(file, 4);
    ASSERT_EQ(ftruncate(file.fd(), 0), 0);
    region.base()[3 * kPage] = 9;
    EXPECT_EQ(touch(region.base() + 3 * kPage), 9);
    EXPECT_TRUE(region.failed());
}

TEST(FaultTest, what_shows_another_file_is_untouched) {
    const TestFile bad(random_bytes(4 * kPage, 3));
    const std::vector<uint8_t> content = random_bytes(4 * kPage, 4);
    const TestFile good(content);
    Region region = region_of(16 * kPage, 16 * kPage);
    region.map_file(0, good.fd(), 0, 4 * kPage).value();
    region.map_file(4 * kPage, bad.fd(), 0, 4 * kPage).value();
    std::fill_n(region.base() + 8 * kPage, 8 * kPage, uint8_t{5});
    const Region neighbour = mapped(good, 4);
    ASSERT_EQ(ftruncate(bad.fd(), 0), 0);
    EXPECT_EQ(touch(region.base() + 4 * kPage), 0);
    EXPECT_TRUE(region.failed());
    EXPECT_TRUE(region.check_intact(0, 4 * kPage).ok());
    EXPECT_FALSE(region.check_intact(4 * kPage - 1, 2).ok());
    EXPECT_FALSE(region.check_intact(8 * kPage - 1, 1).ok());
    EXPECT_TRUE(region.check_intact(8 * kPage, 8 * kPage).ok());
    EXPECT_TRUE(std::equal(content.begin(), content.end(), region.base()));
    EXPECT_EQ(std::count(region.base() + 8 * kPage, region.base() + 16 * kPage, 5), static_cast<ptrdiff_t>(8 * kPage));
    EXPECT_FALSE(neighbour.failed());
    EXPECT_TRUE(std::equal(content.begin(), content.end(), neighbour.base()));
}

TEST(FaultTest, whoever_touches_it_on_whatever_thread) {
    const TestFile file(random_bytes(64 * kPage, 5));
    const Region region = mapped(file, 64);
    ASSERT_EQ(ftruncate(file.fd(), 0), 0);
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&region, thread] {
            for (size_t page = thread; page < 64; page += 4) EXPECT_EQ(touch(region.base() + page * kPage), 0);
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(region.failed());
}

TEST(FaultTest, the_kernel_gets_an_error_instead) {
    const TestFile file(random_bytes(2 * kPage, 6));
    const Region region = mapped(file, 2);
    ASSERT_EQ(ftruncate(file.fd(), 0), 0);
    const TestFile out({0});
    EXPECT_EQ(pwrite(out.fd(), region.base(), kPage, 0), -1);
    EXPECT_EQ(errno, EFAULT);
}

TEST(FaultTest, a_range_is_good_again_when_something_else_backs_it) {
    const TestFile bad(random_bytes(8 * kPage, 7));
    const std::vector<uint8_t> content = random_bytes(8 * kPage, 8);
    const TestFile good(content);
    Region region = mapped(bad, 8);
    ASSERT_EQ(ftruncate(bad.fd(), 0), 0);
    touch(region.base());
    region.reset(2 * kPage, 2 * kPage).value();  // out of the middle: what is left on both sides stays failed
    EXPECT_FALSE(region.check_intact(0, 2 * kPage).ok());
    EXPECT_TRUE(region.check_intact(2 * kPage, 2 * kPage).ok());
    EXPECT_FALSE(region.check_intact(4 * kPage, 1).ok());
    region.map_file(0, good.fd(), 0, 8 * kPage).value();
    EXPECT_FALSE(region.failed());
    EXPECT_TRUE(std::equal(content.begin(), content.end(), region.base()));
}

TEST(FaultTest, a_region_that_moved_still_knows) {
    const TestFile file(random_bytes(2 * kPage, 9));
    Region first = mapped(file, 2);
    Region second = std::move(first);
    ASSERT_EQ(ftruncate(file.fd(), 0), 0);
    touch(second.base());
    Region third;
    third = std::move(second);
    EXPECT_TRUE(third.failed());
}

// Which ranges are failed, against a plain model with one entry for each page: which file it shows, 0 for none.
TEST(FaultTest, splits_and_overlaps_fail_exactly_what_shows_the_file) {
    constexpr size_t kPages = 24;
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        std::mt19937_64 rng(seed);
        const TestFile good(std::vector<uint8_t>(kPages * kPage, 1));
        const TestFile bad(std::vector<uint8_t>(kPages * kPage, 2));
        Region region = region_of(kPages * kPage, kPages * kPage);
        std::vector<int> model(kPages, 0);
        for (int step = 0; step < 40; ++step) {
            const size_t page = rng() % kPages;
            const size_t count = 1 + rng() % std::min<size_t>(6, kPages - page);
            const int what = static_cast<int>(rng() % 3);
            if (what == 0) {
                region.reset(page * kPage, count * kPage).value();
            } else {
                const TestFile& file = what == 1 ? good : bad;
                region.map_file(page * kPage, file.fd(), page * kPage, count * kPage).value();
            }
            std::fill_n(model.begin() + static_cast<ptrdiff_t>(page), count, what);
        }
        ASSERT_EQ(ftruncate(bad.fd(), 0), 0);
        for (size_t page = 0; page < kPages; ++page) {
            const uint8_t want = model[page] == 1 ? 1 : 0;
            ASSERT_EQ(touch(region.base() + page * kPage + 9), want) << "seed " << seed << " page " << page;
        }
        for (size_t page = 0; page < kPages; ++page) {
            ASSERT_EQ(region.check_intact(page * kPage, kPage).ok(), model[page] != 2) << "seed " << seed;
        }
    }
}

TEST(FaultTest, a_guard_protects_a_map_that_is_only_read) {
    const TestFile file(random_bytes(2 * kPage, 10));
    void* at = mmap(nullptr, 2 * kPage, PROT_READ, MAP_SHARED, file.fd(), 0);
    ASSERT_NE(at, MAP_FAILED);
    {
        const auto guard = FaultGuard::watch(static_cast<uint8_t*>(at), 2 * kPage, FaultGuard::Access::kRead).value();
        ASSERT_EQ(ftruncate(file.fd(), 0), 0);
        EXPECT_FALSE(guard.failed());
        EXPECT_EQ(touch(static_cast<uint8_t*>(at) + kPage), 0);
        EXPECT_TRUE(guard.failed());
    }
    munmap(at, 2 * kPage);
}

TEST(FaultTest, many_guards_come_and_go) {
    const TestFile file(random_bytes(kPage, 11));
    for (int round = 0; round < 3; ++round) {
        std::vector<Region> regions;
        for (int i = 0; i < 3000; ++i) regions.push_back(mapped(file, 1));  // more than a chunk of the table
        for (const Region& region : regions) ASSERT_FALSE(region.failed());
    }
}

using FaultDeathTest = ::testing::Test;

// A map of a truncated file that nobody guards.
const uint8_t* unguarded_fault(const TestFile& file) {
    void* at = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, file.fd(), 0);
    EXPECT_NE(at, MAP_FAILED);
    EXPECT_EQ(ftruncate(file.fd(), 0), 0);
    return static_cast<uint8_t*>(at);
}

TEST(FaultDeathTest, a_fault_elsewhere_still_ends_the_process) {
    const TestFile shown(random_bytes(kPage, 12));
    const Region region = mapped(shown, 1);
    const TestFile file(random_bytes(kPage, 13));
    EXPECT_EXIT(touch(unguarded_fault(file)), ::testing::KilledBySignal(SIGBUS), "");
    EXPECT_EXIT(raise(SIGBUS), ::testing::KilledBySignal(SIGBUS), "");
}

TEST(FaultDeathTest, a_fault_elsewhere_goes_to_the_handler_that_was_there_before) {
    // "threadsafe": the child is a new process in which nothing is installed yet.
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(
        {
            struct sigaction action {};
            action.sa_handler = [](int) { _exit(42); };
            sigaction(SIGBUS, &action, nullptr);
            const TestFile shown(random_bytes(kPage, 14));
            Region region = mapped(shown, 1);
            if (ftruncate(shown.fd(), 0) != 0) _exit(1);
            if (touch(region.base()) != 0 || !region.failed()) _exit(2);
            const TestFile file(random_bytes(kPage, 15));
            touch(unguarded_fault(file));
            _exit(3);
        },
        ::testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace driftwood::memory
