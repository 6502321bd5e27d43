// SingleDecode: a step of one token of one conversation as one kernel (decode_step.h), and its logits' way to the
// caller. The kernel writes them into host memory as they come out: into the caller's, where the card reaches it, else
// into its own, and says so, and this thread copies them on meanwhile.
// A step waits for nothing else and allocates nothing, but the first, which makes the graph, and where the context has
// outgrown the buffers between blocks.
//
// Threads: the engine's one submitting thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "compute/cuda/decode_step.h"
#include "compute/cuda/runtime.h"
#include "compute/cuda/weights.h"
#include "compute/paged_kv_pool.h"
#include "compute/step.h"

namespace driftwood::compute::cuda {

class SingleDecode {
  public:
    // Null where the card or the model is not one for this kernel: other kernels give the same bits. Angles as in
    // RopeStore, complete up to a step's position before the step. Everything given outlives the object.
    static Result<std::unique_ptr<SingleDecode>> create(const DecoderSpec& spec, const Weights& weights,
                                                        const float* cosine, const float* sine, const Stream& stream);

    // Whether these rows are one that it computes.
    bool takes(std::span<const StepRow> rows) const {
        return rows.size() == 1 && rows[0].position / kBlockTokens < plan_.most_chunks;
    }

    // Whether the card reaches the memory that row.logits points to.
    enum class LogitsOn : uint8_t { kCard, kHostAlone };
    // Precondition: takes(). Returns once everything is in place; a fault becomes the item's error.
    Result<void> step(BatchItem& item, const StepRow& row, LogitsOn logits_on, PagedKvPool& pool);

  private:
    SingleDecode(const DecoderSpec& spec, const Stream& stream) : spec_(spec), stream_(stream) {}
    Result<void> make_exchange();
    Result<void> hold_chunks(uint32_t chunks);
    Result<void> hold_tags();
    // Until all blocks have ended; `staged` is where logits go that are not there by themselves, else null.
    Result<void> wait(float* staged);
    // Copies the logits of tiles that have come out; true when all blocks have ended.
    bool collect(float* staged);

    // Logits [begin, end) that have come out.
    struct Piece {
        size_t begin, end;
    };

    const DecoderSpec& spec_;
    const Stream& stream_;
    DecodePlan plan_;
    DecodeStep args_;
    StepGraph graph_;
    DeviceBytes layers_, words_, parts_;
    PinnedBytes blocks_, notes_, logits_;
    std::vector<uint32_t> given_;  // tiles of each block whose logits the caller has; kStepDone when all
    std::vector<Piece> there_;
    bool fresh_tags_ = true;  // whether the words have no tags yet
};

}  // namespace driftwood::compute::cuda
