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
#include "compute/test_numbers.h"
#include "compute/test_spec.h"

namespace driftwood::compute {

inline std::ostream& operator<<(std::ostream& out, const KernelTable& table) { return out << table.kernels->name; }

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

}  // namespace driftwood::compute
