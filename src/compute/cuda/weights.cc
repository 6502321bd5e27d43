#include "compute/cuda/weights.h"

#include <algorithm>

#include "compute/cuda/layout.h"

namespace driftwood::compute::cuda {

Result<void> Weights::copy(std::span<const uint8_t> from, const DeviceBytes& to, const Stream& stream) {
    return check("copy weights to the card",
                 cudaMemcpyAsync(to.as<void>(), from.data(), from.size(), cudaMemcpyHostToDevice, stream.get()));
}

Result<void> Weights::matrix(const MatrixView& view, const char* what, DeviceBytes& raw, const Stream& stream,
                             TiledMatrix& out) {
    out.rows = view.rows;
    out.cols = view.cols;
    out.type = view.type;
    out.kind = activation_kind(view.type, bits_);
    DW_TRY(raw.hold(view.bytes.size()));
    DW_TRY(copy(view.bytes, raw, stream));
    const size_t tiles = size_t{tiles_of(view.rows)} * padded_groups(view.cols);
    DeviceBytes values, scales;
    if (in_tiles(out)) {
        DW_TRY(values.hold(tiles * tile_bytes(view.type)));
        DW_TRY(scales.hold(tiles * kTileRows * sizeof(uint16_t)));
        DW_TRY(check(what, repack(stream.get(), raw.as<uint8_t>(), out, values.as<uint8_t>(), scales.as<uint16_t>())));
    } else {
        DW_TRY(values.hold(tiles / kGroupsPerSuperBlock * record_bytes(view.type)));
        DW_TRY(check(what, repack_records(stream.get(), raw.as<uint8_t>(), row_bytes(view.type, view.cols), out,
                                          values.as<uint8_t>())));
    }
    out.tiles = values.as<uint8_t>();
    out.scales = scales.as<uint16_t>();
    memory_.push_back(std::move(values));
    memory_.push_back(std::move(scales));
    return {};
}

Result<void> Weights::plain_embedding(const MatrixView& view, const Stream& stream) {
    DeviceBytes memory;
    DW_TRY(memory.hold(view.bytes.size()));
    DW_TRY(copy(view.bytes, memory, stream));
    embedding = {.tiles = memory.as<uint8_t>(), .rows = view.rows, .cols = view.cols, .type = view.type};
    memory_.push_back(std::move(memory));
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

Result<Weights> Weights::upload(const DecoderSpec& spec, const Stream& stream) {
    Weights w(spec.activation_bits);
    size_t most = std::max(spec.output.bytes.size(), spec.embedding.bytes.size());
    for (const DecoderLayer& layer : spec.layer)
        most = std::max({most, layer.w_down.bytes.size(), layer.wq.bytes.size()});
    DeviceBytes raw;  // what a matrix was, on its way into tiles
    DW_TRY(raw.hold(most));
    if (is_plain_float(spec.embedding.type)) {
        DW_TRY(w.plain_embedding(spec.embedding, stream));
    } else {
        DW_TRY(w.matrix(spec.embedding, "repack embedding", raw, stream, w.embedding));
    }
    w.layer.resize(spec.layers);
    for (uint32_t i = 0; i < spec.layers; ++i) {
        const DecoderLayer& from = spec.layer[i];
        LayerWeights& to = w.layer[i];
        DW_TRY(w.floats(from.attn_norm, stream, to.attn_norm));
        DW_TRY(w.floats(from.ffn_norm, stream, to.ffn_norm));
        DW_TRY(w.matrix(from.wq, "repack wq", raw, stream, to.wq));
        DW_TRY(w.matrix(from.wk, "repack wk", raw, stream, to.wk));
        DW_TRY(w.matrix(from.wv, "repack wv", raw, stream, to.wv));
        DW_TRY(w.matrix(from.wo, "repack wo", raw, stream, to.wo));
        DW_TRY(w.matrix(from.w_gate, "repack w_gate", raw, stream, to.w_gate));
        DW_TRY(w.matrix(from.w_up, "repack w_up", raw, stream, to.w_up));
        DW_TRY(w.matrix(from.w_down, "repack w_down", raw, stream, to.w_down));
    }
    DW_TRY(w.floats(spec.output_norm, stream, w.output_norm));
    if (spec.output.bytes.data() == spec.embedding.bytes.data()) {
        w.output = w.embedding;
    } else {
        DW_TRY(w.matrix(spec.output, "repack output", raw, stream, w.output));
    }
    DW_TRY(stream.wait());
    return w;
}

}  // namespace driftwood::compute::cuda
