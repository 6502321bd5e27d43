// Stopwatch: how long the parts of a longer job take, by a monotonic clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace driftwood::node {

class Stopwatch {
  public:
    // Nanoseconds since the last lap, or since it was made.
    int64_t lap_ns() {
        const auto now = std::chrono::steady_clock::now();
        const auto lap = std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_).count();
        last_ = now;
        return lap;
    }

  private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace driftwood::node
