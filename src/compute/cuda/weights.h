// A decoder's weights in the card's memory, repacked into tiles (layout.h) or records (records.cuh) once, when an
// engine is made.
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
    // kLimit when the card's memory does not hold them.
    static Result<Weights> upload(const DecoderSpec& spec, const Stream& stream);

    TiledMatrix embedding, output;
    std::vector<LayerWeights> layer;
    const float* output_norm = nullptr;

  private:
    explicit Weights(ActivationBits bits) : bits_(bits) {}
    static Result<void> copy(std::span<const uint8_t> from, const DeviceBytes& to, const Stream& stream);
    // By way of `raw`; `what` names it in errors.
    Result<void> matrix(const MatrixView& view, const char* what, DeviceBytes& raw, const Stream& stream,
                        TiledMatrix& out);
    // Of F32, F16 or BF16, as it is.
    Result<void> plain_embedding(const MatrixView& view, const Stream& stream);
    Result<void> floats(std::span<const float> values, const Stream& stream, const float*& out);

    ActivationBits bits_;
    std::vector<DeviceBytes> memory_;
};

}  // namespace driftwood::compute::cuda
