// The last part of CudaEngine's step: logits, and their way to whoever asked for them. They are made in parts, which
// travel by a stream of their own and are given out by threads while later ones are made: with many conversations the
// bus takes longer than the whole decoder.
#include <algorithm>
#include <cstring>
#include <vector>

#include "compute/cpu/streaming_copy.h"
#include "compute/cuda/engine.h"

namespace driftwood::compute::cuda {

CudaEngine::Pass CudaEngine::Pass::part(uint32_t begin, uint32_t end) const {
    Pass made;
    made.first = first + begin;
    made.rows = end - begin;
    made.token = token + begin;
    made.position = position + begin;
    made.table = table + begin;
    made.blocks = blocks;
    made.decode_rows.assign(decode_rows.begin(), decode_rows.begin() + made.rows);  // numbered from 0 again
    made.decode_row = decode_row;
    made.max_chunks = max_chunks;
    return made;
}

// The end of parts that is nearest to half of the rows.
uint32_t CudaEngine::Pass::half() const {
    uint32_t end = 0;
    for (const uint32_t part : kParts) {
        if (2 * end + part >= rows) break;
        end += part;
    }
    return end;
}

// The bus waits for the layers, and is then busy for longer than they were. So the last layers are done for half of the
// rows first, and for the others while those logits travel: as many layers as are over by then. The figures are an
// H200's and decide what is hidden, never what comes out.
uint32_t CudaEngine::late_layers(const Pass& pass) const {
    constexpr double kBusBytes = 55e3;      // a microsecond
    constexpr double kOutputBytes = 2e6;    // of weights that logits are made of, each time they are read
    constexpr double kReads = 6;            // or as long as those, for half of the rows and what the others begin with
    constexpr double kLayerWeights = 80e6;  // times rows
    const uint32_t half = pass.half();
    const bool all = pass.only_decodes() && pass.logit_rows.size() == pass.rows && pass.rows <= kLogitRows;
    const uint32_t least = std::min(half, pass.rows - half);
    if (!all || least < kLateRows || !many_decodes(least, spec_.kv_heads)) return 0;
    const double attention = 2.0 * (spec_.heads + spec_.kv_heads) * spec_.head_dim * spec_.d_model;
    const double weights = attention + 3.0 * spec_.d_ff * spec_.d_model;
    const double hidden = half * sizeof(float) * spec_.vocab / kBusBytes -
                          kReads * static_cast<double>(spec_.output.bytes.size()) / kOutputBytes;
    const double layer = weights * (pass.rows - half) / kLayerWeights;
    return static_cast<uint32_t>(std::clamp(hidden / layer + 0.5, 0.0, spec_.layers - 1.0));
}

uint32_t CudaEngine::part_rows(const Pass& pass, size_t begin) {
    const uint32_t* part = kParts;
    for (uint32_t slot = begin % kLogitRows; slot > 0; ++part) slot -= *part;
    return static_cast<uint32_t>(std::min<size_t>(*part, pass.logit_rows.size() - begin));
}

// Logits of a part's rows; after the last of them, the faults on their way to the host.
Result<void> CudaEngine::enqueue_logits(const Pass& pass, size_t begin) {
    Buffers& b = buffers_;
    const uint32_t count = part_rows(pass, begin);
    if (count > 0) {
        Pass part;
        part.rows = count;
        Quantise normed = quantised(weights_->output, spec_.layers, Place::kOutputNorm, part, activations());
        normed.source = pass.logit_source + begin;
        DW_TRY(check("output_norm", norm_quantise(stream_.get(), normed, b.residual.as<float>(), weights_->output_norm,
                                                  spec_.norm_eps)));
        Linear args;
        args.products = 1;
        const bool to_host = goes_to_host(pass.logit_rows.size());
        float* out = to_host ? b.host_logits.as<float>() : b.logits.as<float>();
        args.product[0] = {weights_->output, out + begin % kLogitRows * spec_.vocab};
        args.tokens = count;
        args.x = normed.out;
        args.fault = b.fault.as<uint32_t>();
        args.source = normed.source;
        args.code = fault_code(spec_.layers, Place::kLogits);
        DW_TRY(check("logits", linear(stream_.get(), args)));
    }
    if (begin + count < pass.logit_rows.size()) return {};
    return check("copy faults", cudaMemcpyAsync(b.host_fault.as<void>(), b.fault.as<void>(),
                                                pass.rows * sizeof(uint32_t), cudaMemcpyDeviceToHost, stream_.get()));
}

// Whether a row's logits reach their place by way of host_logits and a copy, or the card puts them there.
bool CudaEngine::is_staged(const StepRow& row, size_t logit_rows) const {
    return goes_to_host(logit_rows) || !pinned_.holds(row.logits);
}

// Makes a part, but for the first, which enqueue() has made, and sends it. A part alone stays on the one stream.
Result<void> CudaEngine::send_logits(std::span<const StepRow> rows, const Pass& pass, size_t begin) {
    if (pass.late_layers > 0 && begin == pass.half()) {
        DW_TRY(enqueue_layers(pass.part(begin, pass.rows), spec_.layers - pass.late_layers, spec_.layers));
    }
    if (begin > 0) DW_TRY(enqueue_logits(pass, begin));
    const size_t slot = begin % kLogitRows;
    const bool alone = pass.logit_rows.size() <= kFirstPart;
    const Stream& by = alone ? stream_ : copies_;
    if (!alone) {
        cudaEvent_t made = part_made_[slot / kFirstPart];
        DW_TRY(check("note logits", cudaEventRecord(made, stream_.get())));
        DW_TRY(check("send logits after they are made", cudaStreamWaitEvent(by.get(), made)));
    }
    const size_t vocab = spec_.vocab;
    const auto place = [&](uint32_t i) {
        const StepRow& row = rows[pass.logit_rows[begin + i]];
        return is_staged(row, pass.logit_rows.size()) ? buffers_.host_logits.as<float>() + (slot + i) * vocab
                                                      : row.logits;
    };
    const uint32_t count = goes_to_host(pass.logit_rows.size()) ? 0 : part_rows(pass, begin);
    if (count > 0) {
        // All rows in one call: copies of their own leave the bus idle between each other.
        std::vector<void*> to(count);
        std::vector<const void*> from(count);
        std::vector<size_t> size(count, vocab * sizeof(float));
        for (uint32_t i = 0; i < count; ++i) {
            to[i] = place(i);
            from[i] = buffers_.logits.as<float>() + (slot + i) * vocab;
        }
        cudaMemcpyAttributes how{};
        how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
        how.flags = cudaMemcpyFlagPreferOverlapWithCompute;
        size_t first = 0;
        DW_TRY(check("copy logits",
                     cudaMemcpyBatchAsync(to.data(), from.data(), size.data(), count, &how, &first, 1, by.get())));
    }
    return check("note a copy of logits", cudaEventRecord(part_there_[slot / kFirstPart], by.get()));
}

// After a part's copies: what is staged is given out.
Result<void> CudaEngine::deliver_logits(std::span<const StepRow> rows, const Pass& pass, size_t begin) {
    const size_t slot = begin % kLogitRows;
    DW_TRY(check("wait for logits", cudaEventSynchronize(part_there_[slot / kFirstPart])));
    const size_t vocab = spec_.vocab;
    const bool many = pass.logit_rows.size() > kFirstPart;
    std::vector<uint32_t> staged;
    for (uint32_t i = 0; i < part_rows(pass, begin); ++i) {
        if (is_staged(rows[pass.logit_rows[begin + i]], pass.logit_rows.size())) staged.push_back(i);
    }
    threads_.run(static_cast<uint32_t>(staged.size()), [&](uint32_t task) {
        const uint32_t i = staged[task];
        float* to = rows[pass.logit_rows[begin + i]].logits;
        const float* from = buffers_.host_logits.as<float>() + (slot + i) * vocab;
        if (many) {
            streaming_copy(to, from, vocab);
        } else {
            std::memcpy(to, from, vocab * sizeof(float));
        }
    });
    return {};
}

// As many parts are under way as there is room for.
Result<void> CudaEngine::bring_logits(std::span<const StepRow> rows, const Pass& pass) {
    const size_t count = pass.logit_rows.size();
    for (size_t begin = 0; begin < std::min<size_t>(count, kLogitRows); begin += part_rows(pass, begin)) {
        DW_TRY(send_logits(rows, pass, begin));
    }
    for (size_t begin = 0; begin < count; begin += part_rows(pass, begin)) {
        DW_TRY(deliver_logits(rows, pass, begin));
        if (begin + kLogitRows < count) DW_TRY(send_logits(rows, pass, begin + kLogitRows));
    }
    return {};
}

}  // namespace driftwood::compute::cuda
