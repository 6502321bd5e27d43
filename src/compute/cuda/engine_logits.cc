// The last part of CudaEngine's step: logits, and their way to whoever asked for them. They are made in parts, which
// travel by a stream of their own and are given out by threads while later ones are made: with many conversations the
// bus takes longer than the whole decoder.
#include <algorithm>
#include <cstring>

#include "compute/cpu/streaming_copy.h"
#include "compute/cuda/engine.h"

namespace driftwood::compute::cuda {

uint32_t CudaEngine::part_rows(const Pass& pass, size_t begin) {
    return static_cast<uint32_t>(std::min<size_t>(kPartRows, pass.logit_rows.size() - begin));
}

// Logits of a part's rows; after the last of them, the faults on their way to the host.
Result<void> CudaEngine::enqueue_logits(const Pass& pass, size_t begin) {
    Buffers& b = buffers_;
    const uint32_t count = part_rows(pass, begin);
    if (count > 0) {
        Quantise normed = quantised(weights_->output, spec_.layers, Place::kOutputNorm, count, activations());
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

// Makes a part, but for the first, which enqueue() has made, and sends it. A part alone stays on the one stream.
Result<void> CudaEngine::send_logits(const Pass& pass, size_t begin) {
    if (begin > 0) DW_TRY(enqueue_logits(pass, begin));
    const size_t slot = begin % kLogitRows;
    const bool alone = pass.logit_rows.size() <= kPartRows;
    const Stream& by = alone ? stream_ : copies_;
    if (!alone) {
        cudaEvent_t made = part_made_[slot / kPartRows];
        DW_TRY(check("note logits", cudaEventRecord(made, stream_.get())));
        DW_TRY(check("send logits after they are made", cudaStreamWaitEvent(by.get(), made)));
    }
    const size_t at = slot * spec_.vocab;
    const size_t size = part_rows(pass, begin) * size_t{spec_.vocab} * sizeof(float);
    if (!goes_to_host(pass.logit_rows.size())) {
        DW_TRY(check("copy logits",
                     cudaMemcpyAsync(buffers_.host_logits.as<float>() + at, buffers_.logits.as<float>() + at, size,
                                     cudaMemcpyDeviceToHost, by.get())));
    }
    return check("note a copy of logits", cudaEventRecord(part_there_[slot / kPartRows], by.get()));
}

Result<void> CudaEngine::deliver_logits(std::span<const StepRow> rows, const Pass& pass, size_t begin) {
    const size_t slot = begin % kLogitRows;
    DW_TRY(check("wait for logits", cudaEventSynchronize(part_there_[slot / kPartRows])));
    const size_t vocab = spec_.vocab;
    const bool many = pass.logit_rows.size() > kPartRows;
    threads_.run(part_rows(pass, begin), [&](uint32_t i) {
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
    for (size_t begin = 0; begin < std::min<size_t>(count, kLogitRows); begin += kPartRows) {
        DW_TRY(send_logits(pass, begin));
    }
    for (size_t begin = 0; begin < count; begin += kPartRows) {
        DW_TRY(deliver_logits(rows, pass, begin));
        if (begin + kLogitRows < count) DW_TRY(send_logits(pass, begin + kLogitRows));
    }
    return {};
}

}  // namespace driftwood::compute::cuda
