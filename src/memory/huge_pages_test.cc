#include "memory/huge_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace driftwood::memory {
namespace {

class Anonymous {
  public:
    explicit Anonymous(size_t size) : size_(size) {
        data_ = static_cast<uint8_t*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        EXPECT_NE(data_, MAP_FAILED);
    }
    ~Anonymous() { munmap(data_, size_); }
    Anonymous(const Anonymous&) = delete;
    Anonymous& operator=(const Anonymous&) = delete;
    uint8_t* data() { return data_; }

  private:
    uint8_t* data_;
    size_t size_;
};

TEST(HugePagesTest, what_asks_for_them_is_counted_in_them) {
    if (!huge_pages_given()) GTEST_SKIP() << "this system gives none";
    constexpr size_t kSize = 8 * kHugePage;
    Anonymous memory(kSize);
    EXPECT_EQ(bytes_in_huge_pages(memory.data(), kSize), 0U);  // nothing is touched yet
    prefer_huge_pages(memory.data(), kSize);
    std::memset(memory.data(), 1, kSize);
    const uint64_t huge = bytes_in_huge_pages(memory.data(), kSize);
    EXPECT_LE(huge, kSize);
    if (huge == 0) GTEST_SKIP() << "the system had none to give";
    EXPECT_EQ(huge % kHugePage, 0U);
    // A mapping that reaches beyond the range is none of it.
    EXPECT_EQ(bytes_in_huge_pages(memory.data(), kSize / 2), 0U);
}

TEST(HugePagesTest, small_or_odd_ranges_may_ask) {
    Anonymous memory(4 * kHugePage);
    prefer_huge_pages(memory.data(), 1);
    prefer_huge_pages(memory.data() + 1, kHugePage + 5);  // its whole pages
    std::memset(memory.data(), 7, 4 * kHugePage);
    EXPECT_EQ(memory.data()[3 * kHugePage], 7);
}

}  // namespace
}  // namespace driftwood::memory
