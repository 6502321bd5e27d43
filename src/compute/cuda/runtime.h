// The little of CUDA's runtime that this folder uses, checked and owned. Threads: the engine's one submitting thread.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"

namespace driftwood::compute::cuda {

// "[compute.cuda] what: cudaErrorX: text". Out of memory is kLimit, anything else kInternal. The runtime forgets the
// error, so that it is not taken for the next launch's.
Error cuda_error(const char* what, cudaError_t code);

// The same of a card that does no more work, with what to do.
Error failed_card(const Error& failure);

// Bytes that nobody has taken yet.
Result<size_t> free_card_memory();

inline Result<void> check(const char* what, cudaError_t code) {
    if (code == cudaSuccess) return {};
    return cuda_error(what, code);
}

// A stream of its own: nothing here runs on the default stream.
class Stream {
  public:
    static Result<Stream> create();
    Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
    Stream& operator=(Stream&&) = delete;
    ~Stream();
    cudaStream_t get() const { return stream_; }
    Result<void> wait() const { return check("wait for the card", cudaStreamSynchronize(stream_)); }

  private:
    explicit Stream(cudaStream_t stream) : stream_(stream) {}
    cudaStream_t stream_;
};

// A point of a stream, for the time between two of them.
class Event {
  public:
    static Result<Event> create();
    Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    Event& operator=(Event&&) = delete;
    ~Event();
    cudaEvent_t get() const { return event_; }

  private:
    explicit Event(cudaEvent_t event) : event_(event) {}
    cudaEvent_t event_;
};
// Between two recorded events that were waited for.
Result<double> microseconds(const Event& begin, const Event& end);

enum class Where : uint8_t {
    kDevice,
    kPinned,  // host memory that the card copies from and to at full speed
};

// Bytes on the card or pinned on the host; freed with their owner, which has waited for the work that uses them.
template <Where where>
class Bytes {
  public:
    Bytes() = default;
    Bytes(Bytes&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Bytes& operator=(Bytes&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Bytes() {
        if constexpr (where == Where::kDevice) cudaFree(data_);
        if constexpr (where == Where::kPinned) cudaFreeHost(data_);
    }
    // Holds at least `size` bytes from here on; what was there before is gone if it had to grow. Who grows once will
    // grow again (a batch, one row at a time), and pinning memory takes longer than a step: so by half at least.
    Result<void> hold(size_t size) {
        if (size <= size_) return {};
        if (size_ > 0) size = std::max(size, size_ + size_ / 2);
        Bytes fresh;
        DW_TRY(check("allocate",
                     where == Where::kDevice ? cudaMalloc(&fresh.data_, size) : cudaMallocHost(&fresh.data_, size)));
        fresh.size_ = size;
        *this = std::move(fresh);
        return {};
    }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    size_t size() const { return size_; }

  private:
    void* data_ = nullptr;
    size_t size_ = 0;
};

using DeviceBytes = Bytes<Where::kDevice>;
using PinnedBytes = Bytes<Where::kPinned>;

}  // namespace driftwood::compute::cuda
