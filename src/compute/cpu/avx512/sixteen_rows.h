// The sixteen rows whose sums stand in the lanes of a register, as kernels walk along them from group to group: rows[i]
// is where row i has its next byte. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <cstddef>

#include "compute/cpu/avx512/lanes.h"

namespace driftwood::compute::avx512 {

namespace {  // each kernel file gets copies of its own

// Rows one after the other in memory. Five pointers and the distance reach all sixteen by the processor's own
// addressing (base + 1, 2, 4 or 8 times the distance); sixteen pointers would be read from the stack for every load.
class EvenRows {
  public:
    EvenRows(const uint8_t* first, size_t row_bytes)
        : at0_(first),
          at3_(first + 3 * row_bytes),
          at5_(first + 5 * row_bytes),
          at10_(first + 10 * row_bytes),
          at15_(first + 15 * row_bytes),
          distance_(row_bytes) {}

    [[gnu::always_inline]] const uint8_t* operator[](uint32_t i) const {
        switch (i) {
            case 0: return at0_;
            case 1: return at0_ + distance_;
            case 2: return at0_ + 2 * distance_;
            case 3: return at3_;
            case 4: return at0_ + 4 * distance_;
            case 5: return at5_;
            case 6: return at5_ + distance_;
            case 7: return at5_ + 2 * distance_;
            case 8: return at0_ + 8 * distance_;
            case 9: return at5_ + 4 * distance_;
            case 10: return at10_;
            case 11: return at10_ + distance_;
            case 12: return at10_ + 2 * distance_;
            case 13: return at5_ + 8 * distance_;
            case 14: return at10_ + 4 * distance_;
            default: return at15_;
        }
    }

    [[gnu::always_inline]] void advance(size_t bytes) {
        at0_ += bytes;
        at3_ += bytes;
        at5_ += bytes;
        at10_ += bytes;
        at15_ += bytes;
        // So that the compiler does not keep sixteen sums on the stack after all.
        asm volatile("" : "+r"(at0_), "+r"(at3_), "+r"(at5_), "+r"(at10_), "+r"(at15_), "+r"(distance_));
    }

  private:
    const uint8_t* at0_;
    const uint8_t* at3_;
    const uint8_t* at5_;
    const uint8_t* at10_;
    const uint8_t* at15_;
    size_t distance_;
};

// Fewer than sixteen, at the end of a matrix: the last one again for those that are missing.
class LastRows {
  public:
    LastRows(const uint8_t* first, size_t row_bytes, uint32_t count) {
        for (uint32_t i = 0; i < kLanes; ++i) at_[i] = first + (i < count ? i : count - 1) * row_bytes;
    }
    const uint8_t* operator[](uint32_t i) const { return at_[i]; }
    void advance(size_t bytes) {
        for (const uint8_t*& row : at_) row += bytes;
    }

  private:
    const uint8_t* at_[kLanes];
};

}  // namespace
}  // namespace driftwood::compute::avx512
