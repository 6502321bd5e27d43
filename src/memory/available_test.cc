#include "memory/available.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <limits>

namespace driftwood::memory {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

class GroupTest : public ::testing::Test {
  protected:
    GroupTest() {
        std::string name = (std::filesystem::temp_directory_path() / "driftwood-test-XXXXXX").string();
        EXPECT_NE(mkdtemp(name.data()), nullptr);
        root_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(root_); }
    void write(const std::string& path, const std::string& text) {
        const std::filesystem::path file = root_ + "/" + path;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file) << text;
    }
    std::string root_;
};

TEST_F(GroupTest, without_a_limit_everything_may_be_taken) {
    EXPECT_EQ(group_available_bytes("0::/a/b\n", root_), kNoLimit);
    EXPECT_EQ(group_available_bytes("", root_), kNoLimit);
    EXPECT_EQ(group_available_bytes("nonsense\n:\n::\n4:memory\n", root_), kNoLimit);
    write("a/b/memory.max", "max\n");
    write("a/b/memory.current", "4096\n");
    EXPECT_EQ(group_available_bytes("0::/a/b\n", root_), kNoLimit);
}

TEST_F(GroupTest, a_limit_counts_without_cached_files) {
    write("a/memory.max", "1000000\n");
    write("a/memory.current", "700000\n");
    EXPECT_EQ(group_available_bytes("0::/a\n", root_), 300000U);
    write("a/memory.stat", "anon 350000\nfile 350000\ninactive_anon 5\nactive_file 50000\ninactive_file 150000\n");
    EXPECT_EQ(group_available_bytes("0::/a\n", root_), 500000U);
    write("a/memory.high", "800000\n");
    EXPECT_EQ(group_available_bytes("0::/a\n", root_), 300000U);
    write("a/memory.high", "max\n");
    write("a/memory.current", "1300000\n");
    EXPECT_EQ(group_available_bytes("0::/a\n", root_), 0U);
}

TEST_F(GroupTest, the_narrowest_group_on_the_way_up_counts) {
    write("a/b/c/memory.max", "900\n");
    write("a/b/c/memory.current", "100\n");
    write("a/memory.max", "500\n");
    write("a/memory.current", "200\n");
    EXPECT_EQ(group_available_bytes("0::/a/b/c\n", root_), 300U);
    EXPECT_EQ(group_available_bytes("0::/a/b\n", root_), 300U);
    EXPECT_EQ(group_available_bytes("0::/other\n", root_), kNoLimit);
}

TEST_F(GroupTest, a_container_sees_its_limit_at_the_root) {
    write("memory.max", "800\n");
    write("memory.current", "300\n");
    EXPECT_EQ(group_available_bytes("0::/somewhere/on/the/host\n", root_), 500U);
}

TEST_F(GroupTest, version_1_has_a_hierarchy_for_memory) {
    write("memory/a/memory.limit_in_bytes", "1000\n");
    write("memory/a/memory.usage_in_bytes", "600\n");
    write("memory/a/memory.stat", "cache 1\ninactive_file 7\ntotal_inactive_file 200\ntotal_active_file 100\n");
    EXPECT_EQ(group_available_bytes("5:cpu:/a\n4:memory:/a\n0::/\n", root_), 700U);
    EXPECT_EQ(group_available_bytes("4:hugetlb,memory:/a\n", root_), 700U);
    EXPECT_EQ(group_available_bytes("5:cpu:/a\n", root_), kNoLimit);
}

TEST(AvailableTest, this_system_says_something_below_all_addresses) {
    EXPECT_GT(available_bytes(), 0U);
    EXPECT_LT(available_bytes(), uint64_t{1} << 50);
}

}  // namespace
}  // namespace driftwood::memory
