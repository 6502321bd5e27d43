// What tests of kernels share: the tables this machine can run, beside the reference, and numbers that are hard.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "compute/constants.h"
#include "compute/cpu/tables.h"
#include "compute/kernels.h"
#include "compute/reference/reference.h"
#include "compute/test_spec.h"

namespace driftwood::compute {

inline void PrintTo(const KernelTable& table, std::ostream* out) { *out << table.kernels->name; }

// Every table but the reference, which is the last.
inline std::vector<KernelTable> tested_tables() {
    const auto tables = kernel_tables();
    return {tables.begin(), tables.end() - 1};
}

// Tables have holes where an instruction set has nothing of its own: those entries are the reference itself.
class KernelsOf : public ::testing::TestWithParam<KernelTable> {
  protected:
    void SetUp() override {
        if (!GetParam().available) GTEST_SKIP() << "this machine has no " << GetParam().needs;
        tested_ = reference::completed(*GetParam().kernels);
    }
    const Kernels& tested() const { return tested_; }
    const Kernels& reference_kernels() const { return reference::kernels(); }

  private:
    Kernels tested_{};
};

template <class T>
::testing::AssertionResult equal_bytes(const std::vector<T>& got, const std::vector<T>& want) {
    for (size_t i = 0; i < want.size(); ++i) {
        if (std::memcmp(static_cast<const void*>(&got[i]), static_cast<const void*>(&want[i]), sizeof(T)) == 0)
            continue;
        return ::testing::AssertionFailure()
               << "at " << i << " of " << want.size() << ": got " << +got[i] << ", want " << +want[i];
    }
    return ::testing::AssertionSuccess();
}

// ---- adversarial floats: what activations can hold, and some that they should not

inline constexpr uint32_t kStyles = 8;

inline float hard_float(TestRandom& random, uint32_t style) {
    switch (style) {
        case 0: return random.uniform();
        case 1:  // huge
            return random.uniform() * 3e38F;
        case 2:  // around the limit below which a group counts as zero
            return random.uniform() * 0x1p-59F;
        case 3:  // subnormal
            return random.uniform() * 0x1p-127F;
        case 4:  // ties: multiples of a half up to 63.5, exactly representable after any power of two
            return static_cast<float>(static_cast<int32_t>(random.below(255)) - 127) * 0.5F;
        case 5:  // just below a power of two, where rounding wants to exceed 127
            return std::nextafter(2.0F, 0.0F) * (random.below(2) == 0 ? 1.0F : -1.0F);
        case 6:  // zeros of both signs, and a few ones
            return random.below(4) == 0 ? 1.0F : (random.below(2) == 0 ? 0.0F : -0.0F);
        default:  // any finite bits
            for (;;) {
                const float x = std::bit_cast<float>(static_cast<uint32_t>(random.bits()));
                if (std::isfinite(x)) return x;
            }
    }
}

// Style kStyles changes its style every 32 values.
inline std::vector<float> hard_floats(TestRandom& random, uint32_t count, uint32_t style) {
    std::vector<float> values(count);
    uint32_t current = style;
    for (uint32_t i = 0; i < count; ++i) {
        if (style == kStyles && i % 32 == 0) current = random.below(kStyles);
        values[i] = hard_float(random, current);
    }
    return values;
}

// Calls body(values) with every style at every count.
inline void for_hard_rows(std::initializer_list<uint32_t> counts,
                          const std::function<void(const std::vector<float>&)>& body) {
    TestRandom random(11);
    for (const uint32_t count : counts) {
        for (uint32_t style = 0; style <= kStyles; ++style) {
            SCOPED_TRACE("count " + std::to_string(count) + ", style " + std::to_string(style));
            for (int repeat = 0; repeat < 4; ++repeat) body(hard_floats(random, count, style));
        }
    }
}

inline constexpr ActivationKind kKinds[] = {ActivationKind::kA32P, ActivationKind::kA256, ActivationKind::kA16};
inline constexpr const char* kKindNames[] = {"A32P", "A256", "A16"};

// Rows of activations as a kernel writes them.
struct Quantised {
    ActivationKind kind;
    std::vector<int8_t> high, low;
    std::vector<float> scale;
    std::vector<int32_t> high_sum, low_sum;
    bool finite = true;

    Quantised(const Kernels& kernels, ActivationKind of, const std::vector<float>& x, uint32_t cols) : kind(of) {
        const uint32_t group = kind == ActivationKind::kA32P ? kGroup : kSuperBlock;
        const size_t groups = (cols + group - 1) / group;
        const size_t rows = x.size() / cols;
        high.assign(x.size(), 1);
        low.assign(x.size(), 1);
        scale.assign(rows * groups, -1.0F);
        high_sum.assign(x.size() / kSumGroup, -1);
        low_sum.assign(x.size() / kSumGroup, -1);
        for (size_t r = 0; r < rows; ++r) {
            const size_t at = r * cols;
            finite &= kernels.quantise[static_cast<uint32_t>(kind)](
                &x[at], cols,
                {&high[at], &low[at], &scale[r * groups], &high_sum[at / kSumGroup], &low_sum[at / kSumGroup]});
        }
    }
    Activations view() const { return {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()}; }
};

}  // namespace driftwood::compute
