// Logits: memory for one token's logits, with a single owner. An engine hands out what its steps fill soonest
// (Engine::logits_memory); any other memory does as well.
//
// Threads: made and dropped on the engine's submitting thread, read on any. Lifetime: what an engine handed out goes
// before the engine does.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace driftwood::compute {

// Who takes memory back that it handed out.
class LogitsOwner {
  public:
    virtual ~LogitsOwner() = default;
    virtual void take_back(std::span<float> values) = 0;
};

class Logits {
  public:
    Logits() = default;
    // Ordinary memory; what it holds is unspecified.
    explicit Logits(size_t count) : values_(new float[count], count) {}
    Logits(std::span<float> values, LogitsOwner& owner) : values_(values), owner_(&owner) {}
    Logits(Logits&& other) noexcept
        : values_(std::exchange(other.values_, {})), owner_(std::exchange(other.owner_, nullptr)) {}
    Logits& operator=(Logits&& other) noexcept {
        Logits taken(std::move(other));
        std::swap(values_, taken.values_);
        std::swap(owner_, taken.owner_);
        return *this;
    }
    ~Logits() {
        if (owner_ == nullptr) {
            delete[] values_.data();
        } else {
            owner_->take_back(values_);
        }
    }

    std::span<float> values() { return values_; }
    std::span<const float> values() const { return values_; }
    bool empty() const { return values_.empty(); }

  private:
    std::span<float> values_;
    LogitsOwner* owner_ = nullptr;  // null: ordinary memory
};

}  // namespace driftwood::compute
