#include "compute/cuda/runtime.h"

#include <string>

#include "compute/cuda/cuda.h"

namespace driftwood::compute::cuda {

Error cuda_error(const char* what, cudaError_t code) {
    cudaGetLastError();
    return error(
        code == cudaErrorMemoryAllocation ? ErrorCode::kLimit : ErrorCode::kInternal,
        std::string("[compute.cuda] ") + what + ": " + cudaGetErrorName(code) + ": " + cudaGetErrorString(code));
}

Error failed_card(const Error& failure) {
    return error(failure.code, failure.message +
                                   "; the card does no more work for this process: conversations go on with another "
                                   "engine or in another process, from their tokens or their last image");
}

Result<size_t> free_card_memory() {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    DW_TRY(check("ask for the card's free memory", cudaMemGetInfo(&free_bytes, &total_bytes)));
    return free_bytes;
}

Result<Stream> Stream::create() {
    cudaStream_t stream = nullptr;
    DW_TRY(check("make a stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    return Stream(stream);
}

Stream::~Stream() {
    if (stream_ == nullptr) return;
    static_cast<void>(cudaStreamSynchronize(stream_));
    cudaStreamDestroy(stream_);
}

Result<Event> Event::create() {
    cudaEvent_t event = nullptr;
    DW_TRY(check("make an event", cudaEventCreate(&event)));
    return Event(event);
}

Event::~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
}

Result<double> microseconds(const Event& begin, const Event& end) {
    float ms = 0.0F;
    DW_TRY(check("measure time", cudaEventElapsedTime(&ms, begin.get(), end.get())));
    return double{ms} * 1e3;
}

bool available() {
    static const bool kAvailable = [] {
        int count = 0;
        int major = 0;
        if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return false;
        return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess && major >= 8;
    }();
    return kAvailable;
}

}  // namespace driftwood::compute::cuda
