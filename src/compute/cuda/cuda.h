// What the rest of compute/ sees of CUDA. No CUDA headers here; a program built with it starts on machines that have
// neither card nor driver (the runtime is linked in and looks for the driver when first asked).
#pragma once

#include <memory>
#include <string_view>

#include "compute/device.h"
#include "compute/engine.h"

namespace driftwood::compute::cuda {

// Whether the first card of this machine runs this build's kernels. Asks the driver once.
bool available();
inline constexpr std::string_view kNeeds = "an NVIDIA card of compute capability 8.0 or newer and a driver for CUDA 13";

// An engine on the first card. Preconditions: available(), validate(spec). kLimit when the card's memory does not hold
// the weights.
Result<std::unique_ptr<Engine>> make_engine(const DecoderSpec& spec, const EngineOptions& options);

// A device for guests' tensors on the first card. Precondition: available().
Result<std::unique_ptr<Device>> make_device();

}  // namespace driftwood::compute::cuda
