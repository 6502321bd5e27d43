// A device and a fork of the Region it works on: while it works the fork is refused; afterwards each branch is its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "compute/device.h"

namespace driftwood::compute {
namespace {

constexpr uint32_t kN = 64;
constexpr uint64_t kBytes = uint64_t{kN} * kN * sizeof(float);

// C = A · B of kN x kN, one after the other from the Region's first byte.
const Gemm kProduct = {
    .b_offset = kBytes, .c_offset = 2 * kBytes, .m = kN, .n = kN, .k = kN, .lda = kN, .ldb = kN, .ldc = kN};

std::span<float> matrix(memory::Region& region, uint32_t which) {
    return {reinterpret_cast<float*>(region.base() + which * kBytes), size_t{kN} * kN};
}

void fill(memory::Region& region, uint32_t which, float value) { std::ranges::fill(matrix(region, which), value); }

bool holds_only(std::span<const float> numbers, float value) {
    return std::ranges::all_of(numbers, [value](float x) { return x == value; });
}

class DeviceFork : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(devices, DeviceFork, ::testing::Values("reference", "cpu", "cuda"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(DeviceFork, neither_branch_of_a_region_that_a_device_uses_sees_the_others_results) {
    auto made = make_device(GetParam(), 2);
    if (!made.ok() && made.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << made.error().message;
    const auto device = std::move(made).value();
    memory::Region parent = memory::Region::reserve(4 * kBytes).value();
    parent.grow(3 * kBytes).value();
    fill(parent, 0, 1.0F);
    fill(parent, 1, 2.0F);
    ASSERT_TRUE(device->gemm(parent, kProduct).ok());
    EXPECT_FALSE(parent.held());
    memory::Region child = parent.fork().value();
    EXPECT_TRUE(holds_only(matrix(child, 2), 128.0F));
    // Both go on with the same device, in turns.
    fill(child, 0, 3.0F);
    ASSERT_TRUE(device->gemm(child, kProduct).ok());
    EXPECT_TRUE(holds_only(matrix(parent, 2), 128.0F));
    fill(parent, 1, 5.0F);
    ASSERT_TRUE(device->gemm(parent, kProduct).ok());
    EXPECT_TRUE(holds_only(matrix(parent, 0), 1.0F));
    EXPECT_TRUE(holds_only(matrix(parent, 2), 320.0F));
    EXPECT_TRUE(holds_only(matrix(child, 1), 2.0F));
    EXPECT_TRUE(holds_only(matrix(child, 2), 384.0F));
    const Rows doubled{.kind = RowKind::kAdd, .rows = kN, .cols = kN, .ldx = kN, .ldy = kN, .ldout = kN};
    ASSERT_TRUE(device->rows(child, doubled).ok());
    EXPECT_TRUE(holds_only(matrix(child, 0), 6.0F));
    EXPECT_TRUE(holds_only(matrix(parent, 0), 1.0F));
}

TEST(DeviceForkDeathTest, a_fork_while_a_device_works_is_a_failed_check_and_growing_is_not) {
    // A product that takes longer than a second process needs to die, also where others have the cores.
    constexpr uint32_t kLarge = 2048;
    constexpr uint32_t kSteps = 8192;
    const auto device = make_device("cpu", 1).value();
    memory::Region region = memory::Region::reserve(size_t{160} << 20).value();
    region.grow(size_t{144} << 20).value();
    Gemm gemm{.b_offset = size_t{64} << 20, .c_offset = size_t{128} << 20, .m = kLarge, .n = kLarge, .k = kSteps};
    gemm.lda = kSteps;
    gemm.ldb = gemm.ldc = kLarge;
    std::thread worker([&] { device->gemm(region, gemm).value(); });
    while (!region.held()) std::this_thread::yield();
    EXPECT_DEATH(static_cast<void>(region.fork()), "CHECK");
    EXPECT_TRUE(region.held());
    EXPECT_TRUE(region.grow(size_t{160} << 20).ok());
    worker.join();
    EXPECT_FALSE(region.held());
    EXPECT_TRUE(region.fork().ok());
}

}  // namespace
}  // namespace driftwood::compute
