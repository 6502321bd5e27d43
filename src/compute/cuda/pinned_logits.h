// PinnedLogits: memory for callers' logits that the card writes into by itself, in slabs that grow with the largest
// number held at once and are kept. At the end of what may be pinned, and where the host gives no more, callers get
// ordinary memory. Threads: the engine's one submitting thread.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "compute/cuda/runtime.h"
#include "compute/logits.h"

namespace driftwood::compute::cuda {

class PinnedLogits final : public LogitsOwner {
  public:
    explicit PinnedLogits(uint32_t vocab);

    Logits take();
    // Whether all of [at, at + vocab) was handed out here.
    bool holds(const float* at) const;
    size_t most_bytes() const { return most_bytes_; }

  private:
    void take_back(std::span<float> values) override;
    // Whether there is another slab's memory to hand out now.
    bool grow();

    uint32_t vocab_;
    size_t row_floats_;  // from one to the next
    size_t most_bytes_;
    std::vector<PinnedBytes> slabs_;
    std::map<const float*, const float*, std::greater<>> ends_;  // of slabs, by where they begin
    std::vector<float*> free_;
};

}  // namespace driftwood::compute::cuda
