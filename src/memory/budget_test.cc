// Regions are refused by name while the process still has mappings and addresses for everything else.
#include "memory/budget.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "memory/region.h"
#include "memory/test_file.h"

namespace driftwood::memory {
namespace {

const size_t kPage = page_size();

// Takes Regions until one is refused.
Error take_all(size_t capacity, size_t size, std::vector<Region>& taken) {
    for (;;) {
        auto region = Region::reserve(capacity);
        if (!region.ok()) return region.error();
        if (const auto grown = region->grow(size); !grown.ok()) return grown.error();
        taken.push_back(std::move(*region));
    }
}

TEST(BudgetTest, mappings_end_with_an_error_that_names_limit_and_fix_and_the_process_lives_on) {
    uint64_t limit = 0;
    if (!(std::ifstream("/proc/sys/vm/max_map_count") >> limit)) GTEST_SKIP() << "this system has no such limit";
    if (limit > 1'000'000) GTEST_SKIP() << "vm.max_map_count is " << limit << ": too many to take here";
    const BudgetUse before = budget_used();
    std::vector<Region> taken;
    const Error refused = take_all(2 * kPage, kPage, taken);
    EXPECT_EQ(refused.code, ErrorCode::kLimit);
    EXPECT_NE(refused.message.find("vm.max_map_count (" + std::to_string(limit) + ")"), std::string::npos)
        << refused.message;
    EXPECT_NE(refused.message.find("sysctl -w vm.max_map_count="), std::string::npos) << refused.message;
    EXPECT_LE(budget_used().mappings, budget_limit().mappings);
    EXPECT_GE(taken.size(), limit / 4);  // two mappings each, all of the budget
    // What the kernel still has is there for others: threads, big allocations, more mappings than a file needs.
    std::thread([] { std::vector<char>(size_t{4} << 20).back() = 1; }).join();
    EXPECT_TRUE(taken.back().reset(0, kPage).ok());
    taken.pop_back();
    EXPECT_TRUE(Region::reserve(kPage).ok());
    taken.clear();
    EXPECT_EQ(budget_used().mappings, before.mappings);
    EXPECT_EQ(budget_used().address_bytes, before.address_bytes);
}

TEST(BudgetTest, addresses_end_with_an_error_that_says_so) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "AddressSanitizer's shadow lies where the last terabytes would";
#endif
    constexpr size_t kTiB = size_t{1} << 40;
    std::vector<Region> taken;
    const Error refused = take_all(kTiB, 0, taken);
    EXPECT_EQ(refused.code, ErrorCode::kLimit);
    EXPECT_NE(refused.message.find("bytes of addresses"), std::string::npos) << refused.message;
    EXPECT_LE(budget_used().address_bytes, budget_limit().address_bytes);
}

TEST(BudgetTest, a_refused_operation_leaves_the_region_as_it_was) {
    uint64_t limit = 0;
    if (!(std::ifstream("/proc/sys/vm/max_map_count") >> limit) || limit > 1'000'000) GTEST_SKIP();
    const TestFile file(random_bytes(kPage, 1));
    Region region = region_of(8 * kPage, 4 * kPage);
    region.base()[kPage] = 7;
    std::vector<Region> taken;
    take_all(kPage, 0, taken);
    EXPECT_EQ(region.map_file(kPage, file.fd(), 0, kPage).error().code, ErrorCode::kLimit);
    EXPECT_EQ(region.fork().error().code, ErrorCode::kLimit);
    EXPECT_EQ(region.base()[kPage], 7);
    taken.resize(taken.size() - 8);
    EXPECT_TRUE(region.map_file(kPage, file.fd(), 0, kPage).ok());
    EXPECT_TRUE(region.fork().ok());
}

TEST(BudgetTest, a_claim_follows_what_is_mapped) {
    const TestFile file(random_bytes(8 * kPage, 2));
    const uint64_t before = budget_used().mappings;
    const auto claimed = [&] { return budget_used().mappings - before; };
    Region region = Region::reserve(16 * kPage, kPage).value();
    EXPECT_EQ(claimed(), 1u);
    region.grow(8 * kPage).value();
    EXPECT_EQ(claimed(), 2u);
    region.map_file(2 * kPage, file.fd(), 0, 4 * kPage).value();
    EXPECT_EQ(claimed(), 4u);  // zeros, file, zeros, the rest
    region.reset(3 * kPage, kPage).value();
    EXPECT_EQ(claimed(), 6u);
    Region moved = std::move(region);
    EXPECT_EQ(claimed(), 6u);
    {
        const Region child = moved.fork().value();
        EXPECT_EQ(claimed(), moved.mappings() + child.mappings());
    }
    EXPECT_EQ(claimed(), moved.mappings());
    moved = Region();
    EXPECT_EQ(claimed(), 0u);
}

}  // namespace
}  // namespace driftwood::memory
