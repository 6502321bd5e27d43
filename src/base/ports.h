// The outside world as interfaces, so that a seed replays a whole node: a class takes the ports it needs through its
// constructor and never calls the operating system for them itself.
#pragma once

#include <cstdint>
#include <span>

namespace driftwood {

// Wall-clock time. Implementations may be called from any thread.
class Clock {
  public:
    virtual ~Clock() = default;
    // Nanoseconds since 1970-01-01T00:00:00Z. Need not be monotonic.
    virtual int64_t now_ns() = 0;
};

class SystemClock final : public Clock {
  public:
    int64_t now_ns() override;
};

// A clock for replays and tests: each reading is `step_ns` after the one before. Not thread-safe.
class StepClock final : public Clock {
  public:
    StepClock(int64_t start_ns, int64_t step_ns) : next_ns_(start_ns), step_ns_(step_ns) {}
    int64_t now_ns() override {
        const int64_t now = next_ns_;
        next_ns_ += step_ns_;
        return now;
    }
    void set_next_ns(int64_t next_ns) { next_ns_ = next_ns; }

  private:
    int64_t next_ns_;
    int64_t step_ns_;
};

// A source of seeds (identities, an actor's random state). What is drawn is recorded by the one who draws.
class Entropy {
  public:
    virtual ~Entropy() = default;
    virtual void fill(std::span<uint8_t> out) = 0;
};

class SystemEntropy final : public Entropy {
  public:
    void fill(std::span<uint8_t> out) override;
};

// Every draw follows from one seed (counter-based, see base/random.h). Not thread-safe.
class SeededEntropy final : public Entropy {
  public:
    explicit SeededEntropy(uint64_t seed) : seed_(seed) {}
    void fill(std::span<uint8_t> out) override;

  private:
    uint64_t seed_;
    uint64_t counter_ = 0;
};

}  // namespace driftwood
