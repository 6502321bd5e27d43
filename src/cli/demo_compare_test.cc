#include <gtest/gtest.h>

#include "cli/demo.h"
#include "file/section.h"
#include "file/test_directory.h"

namespace driftwood::cli {
namespace {

void write_image(const std::string& path, std::vector<uint8_t> bytes, const std::string& note, bool more = false) {
    file::SectionWriter image;
    const uint64_t size = bytes.size();
    image.add_owned("wasm.memory.0", file::DType::kU8, {size}, std::move(bytes));
    if (more) image.add_owned("session.1.tokens", file::DType::kU8, {2}, {1, 2});
    image.set_metadata("model_name", note);
    image.set_metadata("created", path);  // never the same, never counted
    ASSERT_TRUE(image.commit(path, {.replace = true, .durable = false}).ok());
}

class DemoCompareTest : public testing::Test {
  protected:
    Comparison compare() { return compare_images(directory_.file("a"), directory_.file("b")).value(); }
    file::TestDirectory directory_;
};

TEST_F(DemoCompareTest, equal_images_differ_in_no_bit) {
    write_image(directory_.file("a"), {1, 2, 3}, "m");
    write_image(directory_.file("b"), {1, 2, 3}, "m");
    const Comparison comparison = compare();
    EXPECT_EQ(comparison.bits_differing, 0U);
    EXPECT_GE(comparison.bits_compared, 24U);
}

TEST_F(DemoCompareTest, counts_each_bit_that_differs) {
    write_image(directory_.file("a"), {1, 2, 0xFF}, "m");
    write_image(directory_.file("b"), {1, 3, 0x0F}, "m");
    EXPECT_EQ(compare().bits_differing, 1U + 4U);
}

TEST_F(DemoCompareTest, a_tensor_that_one_image_lacks_differs_in_all_its_bits) {
    write_image(directory_.file("a"), {1}, "m");
    write_image(directory_.file("b"), {1}, "m", true);
    EXPECT_EQ(compare().bits_differing, 16U);
}

TEST_F(DemoCompareTest, metadata_counts_but_for_time_parent_and_root) {
    write_image(directory_.file("a"), {1}, "m");
    write_image(directory_.file("b"), {1}, "n");
    EXPECT_GT(compare().bits_differing, 0U);
}

}  // namespace
}  // namespace driftwood::cli
