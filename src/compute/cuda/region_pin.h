// RegionPin: the parts of a memory::Region that a card reaches where they lie. A part is registered (pinned and mapped
// into the card's addresses) when it is first used, in granules of kPinGranule, and stays so until the Region ends the
// pin, before a fork, a remapping or its end; that waits for the stream first.
//
// Registered memory has one address for both sides, or is not taken: parts next to each other are then one range to a
// kernel. Threads: the device's one submitting thread.
#pragma once

#include <memory>
#include <vector>

#include "compute/cuda/runtime.h"
#include "memory/region.h"

namespace driftwood::compute::cuda {

inline constexpr size_t kPinGranule = 65536;  // a page of a guest's memory

class RegionPin final : public memory::Pin {
  public:
    // `stream`: where work on the Region is queued.
    explicit RegionPin(std::shared_ptr<const Stream> stream) : stream_(std::move(stream)) {}
    ~RegionPin() override;

    // Whether the card reaches all `length` > 0 bytes of `region` at `offset`, by now: registers what is missing. No
    // memory of some kinds can be registered, which is no error; it is not tried again.
    bool reach(const memory::Region& region, size_t offset, size_t length);

    size_t bytes() const { return bytes_; }
    int64_t register_ns() const { return register_ns_; }
    // The card's address of the first registered byte, and that byte; nulls when nothing is.
    std::pair<const uint8_t*, const uint8_t*> first() const;

  private:
    struct Part {
        uint8_t* begin;
        uint8_t* end;
    };
    bool take(uint8_t* begin, uint8_t* end, std::vector<Part>::iterator before);

    std::shared_ptr<const Stream> stream_;
    std::vector<Part> parts_;  // ascending, apart or touching
    bool refused_ = false;
    size_t bytes_ = 0;
    int64_t register_ns_ = 0;
};

}  // namespace driftwood::compute::cuda
