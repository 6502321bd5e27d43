#include "compute/cuda/weights.h"

#include <algorithm>
#include <string>

#include "compute/cuda/layout.h"

namespace driftwood::compute::cuda {

Result<void> Weights::matrix(const MatrixView& view, const char* name, DeviceBytes& raw, const Stream& stream,
                             TiledMatrix& out) {
    if (!has_kernels(view.type)) {
        return error(ErrorCode::kUnsupported,
                     std::string("[compute.cuda] ") + name + ": want weights in Q8_0 or Q4_0, got " +
                         std::string(weight_type_name(view.type)) + "; use an engine of the CPU");
    }
    DW_TRY(raw.hold(view.bytes.size()));
    const size_t tiles = size_t{tiles_of(view.rows)} * padded_groups(view.cols);
    DeviceBytes values, scales;
    DW_TRY(values.hold(tiles * tile_bytes(view.type)));
    DW_TRY(scales.hold(tiles * kTileRows * sizeof(uint16_t)));
    out = {values.as<uint8_t>(), scales.as<uint16_t>(), view.rows, view.cols, view.type};
    DW_TRY(check("copy weights to the card", cudaMemcpyAsync(raw.as<void>(), view.bytes.data(), view.bytes.size(),
                                                             cudaMemcpyHostToDevice, stream.get())));
    DW_TRY(check("repack weights",
                 repack(stream.get(), raw.as<uint8_t>(), out, values.as<uint8_t>(), scales.as<uint16_t>())));
    memory_.push_back(std::move(values));
    memory_.push_back(std::move(scales));
    return {};
}

Result<void> Weights::floats(std::span<const float> values, const Stream& stream, const float*& out) {
    DeviceBytes memory;
    DW_TRY(memory.hold(values.size_bytes()));
    DW_TRY(check("copy norms to the card", cudaMemcpyAsync(memory.as<void>(), values.data(), values.size_bytes(),
                                                           cudaMemcpyHostToDevice, stream.get())));
    out = memory.as<float>();
    memory_.push_back(std::move(memory));
    return {};
}

namespace {

// Matrices that share their input are multiplied together, so they have to be of one type.
Result<void> check_types(const DecoderSpec& spec) {
    for (const DecoderLayer& layer : spec.layer) {
        const bool same =
            layer.wq.type == layer.wk.type && layer.wq.type == layer.wv.type && layer.w_gate.type == layer.w_up.type;
        if (same) continue;
        return error(ErrorCode::kUnsupported,
                     "[compute.cuda] want wq, wk and wv of one type, and w_gate and w_up; use an engine of the CPU");
    }
    return {};
}

}  // namespace

Result<Weights> Weights::upload(const DecoderSpec& spec, const Stream& stream) {
    if (spec.activation_bits != ActivationBits::k8) {
        return error(ErrorCode::kUnsupported,
                     "[compute.cuda] activations: want 8 bits, got 16; use an engine of the CPU");
    }
    DW_TRY(check_types(spec));
    Weights w;
    size_t most = std::max(spec.output.bytes.size(), spec.embedding.bytes.size());
    for (const DecoderLayer& layer : spec.layer)
        most = std::max({most, layer.w_down.bytes.size(), layer.wq.bytes.size()});
    DeviceBytes raw;  // what a matrix was, on its way into tiles
    DW_TRY(raw.hold(most));
    DW_TRY(w.matrix(spec.embedding, "embedding", raw, stream, w.embedding));
    w.layer.resize(spec.layers);
    for (uint32_t i = 0; i < spec.layers; ++i) {
        const DecoderLayer& from = spec.layer[i];
        LayerWeights& to = w.layer[i];
        DW_TRY(w.floats(from.attn_norm, stream, to.attn_norm));
        DW_TRY(w.floats(from.ffn_norm, stream, to.ffn_norm));
        DW_TRY(w.matrix(from.wq, "wq", raw, stream, to.wq));
        DW_TRY(w.matrix(from.wk, "wk", raw, stream, to.wk));
        DW_TRY(w.matrix(from.wv, "wv", raw, stream, to.wv));
        DW_TRY(w.matrix(from.wo, "wo", raw, stream, to.wo));
        DW_TRY(w.matrix(from.w_gate, "w_gate", raw, stream, to.w_gate));
        DW_TRY(w.matrix(from.w_up, "w_up", raw, stream, to.w_up));
        DW_TRY(w.matrix(from.w_down, "w_down", raw, stream, to.w_down));
    }
    DW_TRY(w.floats(spec.output_norm, stream, w.output_norm));
    if (spec.output.bytes.data() == spec.embedding.bytes.data()) {
        w.output = w.embedding;
    } else {
        DW_TRY(w.matrix(spec.output, "output", raw, stream, w.output));
    }
    DW_TRY(stream.wait());
    return w;
}

}  // namespace driftwood::compute::cuda
