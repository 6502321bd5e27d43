#include <gtest/gtest.h>

#include <cerrno>

#include "base/ports.h"
#include "base/random.h"
#include "base/result.h"

namespace driftwood {
namespace {

// Known answers of Random123 1.14 (kat_vectors, philox4x32 10 rounds).
TEST(PhiloxTest, agrees_with_the_published_known_answers) {
    EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(SeededEntropyTest, repeats_for_a_seed_and_differs_between_seeds) {
    std::array<uint8_t, 40> a{}, b{}, c{};
    SeededEntropy(7).fill(a);
    SeededEntropy(7).fill(b);
    SeededEntropy(8).fill(c);
    EXPECT_EQ(a, b);
    EXPECT_NE(a, c);
}

Result<int> half(int x) {
    if (x % 2 != 0) return error(ErrorCode::kInvalidArgument, "[half] odd");
    return x / 2;
}

Result<int> quarter(int x) {
    DW_ASSIGN(const int h, half(x));
    return half(h);
}

TEST(ResultTest, hands_errors_through_and_values_out) {
    EXPECT_EQ(*quarter(8), 2);
    ASSERT_FALSE(quarter(6).ok());
    EXPECT_EQ(quarter(6).error().code, ErrorCode::kInvalidArgument);
}

TEST(ResultDeathTest, the_value_of_a_failure_is_a_bug) { EXPECT_DEATH(half(1).value(), "odd"); }

TEST(ErrnoErrorTest, names_operation_thing_and_reason) {
    errno = ENOENT;
    const Error e = errno_error("file.open", "/x/y");
    EXPECT_EQ(e.code, ErrorCode::kNotFound);
    EXPECT_EQ(e.message, "[file.open] /x/y: No such file or directory");
}

}  // namespace
}  // namespace driftwood
