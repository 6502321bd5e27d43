#include "compute/cuda/runtime.h"

#include <string>

#include "compute/cuda/cuda.h"

namespace driftwood::compute::cuda {

Error cuda_error(const char* what, cudaError_t code) {
    return error(
        code == cudaErrorMemoryAllocation ? ErrorCode::kLimit : ErrorCode::kInternal,
        std::string("[compute.cuda] ") + what + ": " + cudaGetErrorName(code) + ": " + cudaGetErrorString(code));
}

Result<Stream> Stream::create() {
    cudaStream_t stream = nullptr;
    DW_TRY(check("make a stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    return Stream(stream);
}

Stream::~Stream() {
    if (stream_ == nullptr) return;
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
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
