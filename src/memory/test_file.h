// For tests: files without a name, and Regions.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "memory/region.h"

namespace driftwood::memory {

// An anonymous file with these bytes, closed with the object.
class TestFile {
  public:
    explicit TestFile(const std::vector<uint8_t>& bytes) : fd_(memfd_create("region_test", MFD_CLOEXEC)) {
        EXPECT_EQ(pwrite(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    }
    ~TestFile() { close(fd_); }
    TestFile(const TestFile&) = delete;
    TestFile& operator=(const TestFile&) = delete;
    int fd() const { return fd_; }
    std::vector<uint8_t> bytes(size_t length) const {
        std::vector<uint8_t> out(length);
        EXPECT_EQ(pread(fd_, out.data(), length, 0), static_cast<ssize_t>(length));
        return out;
    }

  private:
    int fd_;
};

inline std::vector<uint8_t> random_bytes(size_t length, uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::vector<uint8_t> out(length);
    std::generate(out.begin(), out.end(), [&] { return static_cast<uint8_t>(rng()); });
    return out;
}

inline Region region_of(size_t capacity, size_t size) {
    Region region = Region::reserve(capacity).value();
    region.grow(size).value();
    return region;
}

inline bool all_zero(std::span<const uint8_t> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

}  // namespace driftwood::memory
