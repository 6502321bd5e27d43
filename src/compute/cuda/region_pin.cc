#include "compute/cuda/region_pin.h"

#include <algorithm>
#include <chrono>

namespace driftwood::compute::cuda {

RegionPin::~RegionPin() {
    // A card that failed has forgotten the pages with everything else: nothing is left to do with an error.
    static_cast<void>(stream_->wait());
    for (const Part& part : parts_) cudaHostUnregister(part.begin);
    cudaGetLastError();
}

bool RegionPin::reach(const memory::Region& region, size_t offset, size_t length) {
    if (refused_) return false;
    uint8_t* at = region.base() + offset / kPinGranule * kPinGranule;
    const size_t end_offset = (offset + length + kPinGranule - 1) / kPinGranule * kPinGranule;
    uint8_t* const end = region.base() + std::min(end_offset, region.size());
    while (at < end) {
        const auto next = std::find_if(parts_.begin(), parts_.end(), [&](const Part& part) { return part.end > at; });
        if (next != parts_.end() && next->begin <= at) {
            at = next->end;
            continue;
        }
        uint8_t* const until = next == parts_.end() ? end : std::min(end, next->begin);
        if (!take(at, until, next)) {
            refused_ = true;
            return false;
        }
        at = until;
    }
    return true;
}

bool RegionPin::take(uint8_t* begin, uint8_t* end, std::vector<Part>::iterator before) {
    const auto start = std::chrono::steady_clock::now();
    const auto size = static_cast<size_t>(end - begin);
    if (cudaHostRegister(begin, size, cudaHostRegisterMapped) != cudaSuccess) {
        cudaGetLastError();  // what cannot be registered is staged
        return false;
    }
    void* card = nullptr;
    if (cudaHostGetDevicePointer(&card, begin, 0) != cudaSuccess || card != begin) {
        cudaHostUnregister(begin);
        cudaGetLastError();
        return false;
    }
    parts_.insert(before, {begin, end});
    bytes_ += size;
    register_ns_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    return true;
}

std::pair<const uint8_t*, const uint8_t*> RegionPin::first() const {
    void* card = nullptr;
    if (parts_.empty() || cudaHostGetDevicePointer(&card, parts_[0].begin, 0) != cudaSuccess) return {};
    return {static_cast<const uint8_t*>(card), parts_[0].begin};
}

}  // namespace driftwood::compute::cuda
