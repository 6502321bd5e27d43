// Asking memory for the keys and values that come next, while attention computes those that are there.
//
// A head's part of the next block lies elsewhere in memory, where the processor does not look for it. Its lines are
// asked for in their order and a few at a time: memory is to be as busy between the products as beside them, and only
// so many lines can be on their way at once. They go to the second-level cache: asking for the first would take what
// waiting loads need. Everything here has internal linkage (see cpu/README.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/constants.h"
#include "compute/kernels.h"

namespace driftwood::compute {
namespace {  // each kernel file gets copies of its own

// What is asked for, line by line. `part` may be null: nothing.
class Ahead {
  public:
    Ahead(const uint8_t* part, size_t bytes) : at_(part), end_(part == nullptr ? part : part + bytes) {}

    // May go past the end by fewer than `lines`.
    void ask(uint32_t lines) {
        if (at_ >= end_) return;
        for (uint32_t i = 0; i < lines; ++i) ask_for(at_ + i * kLine);
        at_ += lines * kLine;
    }
    void ask_for_rest() {
        for (; at_ < end_; at_ += kLine) ask_for(at_);
    }

  private:
    static constexpr size_t kLine = 64;
    static constexpr int kSecondLevel = 2;
    static void ask_for(const uint8_t* line) { __builtin_prefetch(line, 0, kSecondLevel); }

    const uint8_t* at_;
    const uint8_t* end_;
};

// The part to ask for while chunk `index` is computed.
[[maybe_unused]] inline Ahead ahead_of(const AttentionKvi& args, uint32_t index, uint32_t most_visible) {
    const bool more = (index + 1) * kBlockTokens < most_visible;
    const size_t bytes = size_t{kBlockTokens} * (2 * args.head_dim * sizeof(int16_t) + 2 * sizeof(float));
    return {more ? args.blocks[index + 1] : args.next, bytes};
}

}  // namespace
}  // namespace driftwood::compute
