#include "compute/cuda/pinned_logits.h"

#include <algorithm>

#include "memory/available.h"

namespace driftwood::compute::cuda {

namespace {

constexpr size_t kSlabBytes = size_t{16} << 20;  // pinned in a few milliseconds
constexpr size_t kMostBytes = size_t{1} << 30;
constexpr size_t kLine = 64;

}  // namespace

PinnedLogits::PinnedLogits(uint32_t vocab)
    : vocab_(vocab),
      row_floats_((vocab * sizeof(float) + kLine - 1) / kLine * kLine / sizeof(float)),
      most_bytes_(std::min<size_t>(kMostBytes, memory::available_bytes() / 8)) {}

Logits PinnedLogits::take() {
    if (free_.empty() && !grow()) return Logits(vocab_);
    float* values = free_.back();
    free_.pop_back();
    return {std::span(values, vocab_), *this};
}

bool PinnedLogits::holds(const float* at) const {
    const auto slab = ends_.lower_bound(at);
    return slab != ends_.end() && at + vocab_ <= slab->second;
}

void PinnedLogits::take_back(std::span<float> values) { free_.push_back(values.data()); }

bool PinnedLogits::grow() {
    const size_t row_bytes = row_floats_ * sizeof(float);
    const size_t rows = std::max<size_t>(kSlabBytes / row_bytes, 1);
    size_t held = 0;
    for (const PinnedBytes& slab : slabs_) held += slab.size();
    if (held + rows * row_bytes > most_bytes_) return false;
    PinnedBytes slab;
    if (!slab.hold(rows * row_bytes).ok()) return false;
    auto* begin = slab.as<float>();
    for (size_t i = 0; i < rows; ++i) free_.push_back(begin + i * row_floats_);
    ends_[begin] = begin + rows * row_floats_;
    slabs_.push_back(std::move(slab));
    return true;
}

}  // namespace driftwood::compute::cuda
