// CudaEngine: the decoder's whole step on one card. A step copies a few numbers per token to the card, launches its
// kernels on one stream, copies faults and logits back and waits for them (for many logits part by part, which travel
// by a second one); between those it neither waits nor takes memory of the card (buffers grow with the largest batch
// seen). A step of decodes is one captured graph, of one decode one kernel (single_decode.h) where card and model allow
// it.
//
// Rows as in HostEngine: the tokens of all items are one list that passes through each layer together, at most
// kPassRows at a time. Items whose blocks do not fit on the card together run one group after another; memory that is
// missing for an item is that item's error. A card that fails (a launch, a copy, a kernel) fails every item of this and
// all later steps with the same error: sessions go on elsewhere from their tokens or images.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "compute/cuda/kernels.h"
#include "compute/cuda/kv_card.h"
#include "compute/cuda/pinned_logits.h"
#include "compute/cuda/runtime.h"
#include "compute/cuda/single_decode.h"
#include "compute/cuda/weights.h"
#include "compute/engine.h"
#include "compute/rope_table.h"
#include "compute/step.h"

namespace driftwood::compute::cuda {

class CudaEngine final : public Engine {
  public:
    // Preconditions: available(), validate(spec).
    static Result<std::unique_ptr<Engine>> create(const DecoderSpec& spec, const EngineOptions& options);
    ~CudaEngine() override;

    std::string_view name() const override { return "cuda"; }
    const DecoderSpec& spec() const override { return spec_; }
    KvPool& pool() override { return *pool_; }
    void step(std::span<BatchItem> batch) override;
    bool reads_weights_in_place() const override { return false; }
    Logits logits_memory() override { return pinned_.take(); }
    std::vector<MemoryPart> memory() const override { return plan_; }
    std::optional<Error> failure() const override { return failure_; }

  private:
    // A pass's rows as the card sees them; all of it is copied at once.
    struct Pass {
        uint32_t first = 0;  // of the rows that are one pass up to the last layers; 0 but for the second of two halves
        uint32_t rows = 0;
        const uint32_t* token = nullptr;
        const uint32_t* position = nullptr;
        const uint32_t* table = nullptr;
        uint8_t* const* blocks = nullptr;
        std::vector<uint32_t> logit_rows;  // rows that want logits
        const uint32_t* logit_source = nullptr;
        std::vector<uint32_t> decode_rows;  // rows that are alone in their items
        const uint32_t* decode_row = nullptr;
        std::vector<AttentionTask> tasks;  // the other rows' queries
        const AttentionTask* task = nullptr;
        uint32_t max_chunks = 0;   // of a decode row, rounded up; 0 of many_decodes()
        uint32_t late_layers = 0;  // the last so many are done for half() of the rows first, then for the others

        bool only_decodes() const { return decode_rows.size() == rows; }
        uint32_t half() const;  // about, as parts of logits end
        // Rows [begin, end) of a pass of decodes alone.
        Pass part(uint32_t begin, uint32_t end) const;
    };
    // A pass of decodes as one launch: all that its kernels' arguments depend on, and the captured graph.
    struct Graph {
        uint32_t rows, logit_rows, max_chunks;
        cudaGraphExec_t exec;
    };
    // What a pass writes between its kernels, in the card's memory; sized once, for kPassRows.
    struct Buffers {
        DeviceBytes residual, q, k, v, attended, gate, up;  // f32 [rows, width]
        DeviceBytes q16, cq;
        DeviceBytes a8, a8_scale, pair8, pair8_scale;  // activations in tiles
        DeviceBytes large;                             // one word
        DeviceBytes fault;                             // [rows]
        DeviceBytes cosine, sine;                      // [context, head_dim / 2], filled as far as positions_ says
        DeviceBytes part, part_sum;                    // of attention over chunks side by side
        DeviceBytes meta, logits;                      // these four grow with the largest batch seen
        PinnedBytes host_meta, host_fault, host_logits;
    };

    static constexpr uint32_t kPassRows = 2048;  // rows that share one reading of the weights
    static constexpr uint32_t kLogitRows = 256;  // rows for whose logits there is room
    // Rows whose logits are made, and travel, together: few at first, so that the bus has something to do soon, then as
    // many as are made while those before them travel; one ends in the middle, and the second half begins with few.
    static constexpr uint32_t kParts[] = {8, 16, 40, 64, 16, 48, 64};
    static constexpr uint32_t kFirstPart = kParts[0];  // no other is smaller
    static constexpr uint32_t kLateRows = 64;          // a half of a step is worth its launches from so many on

    CudaEngine(const DecoderSpec& spec, const EngineOptions& options, Stream stream, Stream copies);
    Result<void> make_buffers();
    // What was free, in all and after weights and buffers were taken; from these follows the plan.
    Result<void> make_pool(const EngineOptions& options, size_t free_at_start, size_t free_after_weights);
    // The batch's next items from `first` on whose blocks are on the card together; at least one, or its error.
    size_t bring_group(std::span<BatchItem> batch, size_t first);
    void step_group(std::span<BatchItem> batch);
    Result<void> hold_positions(uint32_t end);
    Result<void> run_pass(std::span<BatchItem> batch, std::span<const StepRow> rows);
    Result<void> send(std::span<const BatchItem> batch, std::span<const StepRow> rows, Pass& pass);
    Result<void> hold(std::span<const StepRow> rows, const Pass& pass);
    Result<void> launch_graph(const Pass& pass);
    // All of a pass up to the first part of its logits and, when that is the last, its faults; with late layers, of the
    // first half.
    Result<void> enqueue(const Pass& pass);
    Result<void> enqueue_layers(const Pass& pass, uint32_t first, uint32_t end);
    uint32_t late_layers(const Pass& pass) const;
    float* residual(const Pass& pass) const;
    uint32_t* fault(const Pass& pass) const { return buffers_.fault.as<uint32_t>() + pass.first; }
    Result<void> attention_block(uint32_t layer, const Pass& pass);
    Result<void> attend(uint32_t layer, const Pass& pass);
    RopeStore rope(uint32_t layer, const Pass& pass) const;
    Result<void> feed_forward_block(uint32_t layer, const Pass& pass);
    Result<void> enqueue_logits(const Pass& pass, size_t begin);
    // Logits of a few rows are written to the host's memory as they are made, of more copied.
    static constexpr bool goes_to_host(size_t rows) { return rows <= 4; }
    bool is_staged(const StepRow& row, size_t logit_rows) const;
    Result<void> send_logits(std::span<const StepRow> rows, const Pass& pass, size_t begin);
    Result<void> deliver_logits(std::span<const StepRow> rows, const Pass& pass, size_t begin);
    Result<void> bring_logits(std::span<const StepRow> rows, const Pass& pass);
    static uint32_t part_rows(const Pass& pass, size_t begin);
    void drop_graphs();
    // Of one type.
    Result<void> multiply(std::span<const Linear::Product> products, Linear args);
    // Of any types, after the norm of the residual stream with this weight: those of one type beside each other in one
    // launch.
    Result<void> multiply_normed(std::span<const Linear::Product> products, Linear args, const float* weight,
                                 uint32_t layer, Place place, const Pass& pass);
    // Of rows that have tiles of activations: the sum with what is in y, or with add = false that alone.
    Linear plain(const Pass& pass, bool add) const;
    // The input of `matrix` for a pass's rows, to be made into `out`.
    Quantise quantised(const TiledMatrix& matrix, uint32_t layer, Place place, const Pass& pass,
                       const Activations& out) const;
    Activations activations(const DeviceBytes& q, const DeviceBytes& scale) const;
    Activations activations() const { return activations(buffers_.a8, buffers_.a8_scale); }
    // Of the feed-forward pair, whose input may be the other ones.
    Activations pair_activations() const { return activations(buffers_.pair8, buffers_.pair8_scale); }
    Linear::Norm norm(const float* weight, uint32_t layer, Place place) const;
    // Whether the layer itself makes the activations of `matrix` from floats.
    bool takes_floats(const TiledMatrix& matrix, const Pass& pass) const;
    Linear::Norm floats(const DeviceBytes& x, uint32_t layer, Place place) const;

    DecoderSpec spec_;
    Stream stream_;
    Stream copies_;  // of logits
    RopeTable rope_;
    float query_scale_;
    uint32_t positions_ = 0;
    std::optional<Weights> weights_;
    std::unique_ptr<PagedKvPool> pool_;
    Buffers buffers_;
    PinnedLogits pinned_;
    std::vector<Graph> graphs_;
    std::array<uint32_t, 3> last_shape_{};             // of the decodes that were launched last and have no graph
    std::unique_ptr<SingleDecode> single_;             // null: such steps are graphs too
    std::vector<cudaEvent_t> part_made_, part_there_;  // for each part of kLogitRows
    ThreadPool threads_;                               // give out logits
    std::vector<MemoryPart> plan_;
    std::optional<Error> failure_;
};

}  // namespace driftwood::compute::cuda
