// A decoder's weights in the card's memory, repacked into tiles (layout.h) once, when an engine is made.
#pragma once

#include <vector>

#include "compute/cuda/kernels.h"
#include "compute/cuda/runtime.h"

namespace driftwood::compute::cuda {

struct LayerWeights {
    const float* attn_norm = nullptr;
    const float* ffn_norm = nullptr;
    TiledMatrix wq, wk, wv, wo, w_gate, w_up, w_down;
};

class Weights {
  public:
    // kLimit when the card's memory does not hold them; kUnsupported names a matrix whose type has no kernels here.
    static Result<Weights> upload(const DecoderSpec& spec, const Stream& stream);

    TiledMatrix embedding, output;
    std::vector<LayerWeights> layer;
    const float* output_norm = nullptr;

  private:
    Weights() = default;
    Result<void> matrix(const MatrixView& view, const char* name, DeviceBytes& raw, const Stream& stream,
                        TiledMatrix& out);
    Result<void> floats(std::span<const float> values, const Stream& stream, const float*& out);

    std::vector<DeviceBytes> memory_;
};

}  // namespace driftwood::compute::cuda
