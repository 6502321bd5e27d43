#include "compute/row_buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>

namespace driftwood::compute {
namespace {

TEST(RowBufferTest, begins_with_a_cache_line_and_long_ones_with_a_huge_page) {
    for (const size_t count : {size_t{1}, size_t{17}, size_t{1000}, memory::kHugePage / sizeof(float) - 1}) {
        const RowBuffer<float> buffer(count);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U) << count;
    }
    const RowBuffer<float> buffer(memory::kHugePage / sizeof(float));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % memory::kHugePage, 0U);
}

TEST(RowBufferTest, keeps_its_numbers_when_it_grows_past_a_huge_page) {
    RowBuffer<uint32_t> buffer(1000);
    std::iota(buffer.begin(), buffer.end(), 7U);
    buffer.resize(memory::kHugePage);
    for (uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(buffer[i], i + 7);
    EXPECT_EQ(buffer.back(), 0U);
}

}  // namespace
}  // namespace driftwood::compute
