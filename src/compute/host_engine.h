// HostEngine: the decoder's step on the CPU, written once for every table of kernels. The walk through the layers is in
// host_engine.cc and reads as the model's diagram; which instructions do the work is the table's business.
//
// Rows: a step's tokens, of all its items, are one list of rows that pass through each layer together, at most
// kPassRows at a time, so that a weight is read once for many tokens. Nothing a row computes depends on its neighbours:
// the same bits come out for any batch, any chunking of a prompt and any number of threads.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/fp_environment.h"
#include "compute/cpu/thread_pool.h"
#include "compute/engine.h"
#include "compute/host_kv_pool.h"
#include "compute/kernels.h"
#include "compute/rope_table.h"
#include "compute/step.h"

namespace driftwood::compute {

class HostEngine final : public Engine {
  public:
    // Precondition: validate(spec) holds.
    HostEngine(const Kernels& kernels, const DecoderSpec& spec, const EngineOptions& options,
               std::unique_ptr<HostKvPool> pool);
    ~HostEngine() override;

    std::string_view name() const override { return kernels_.name; }
    const DecoderSpec& spec() const override { return spec_; }
    KvPool& pool() override { return *pool_; }
    void step(std::span<BatchItem> batch) override;
    std::vector<MemoryPart> memory() const override;

  private:
    struct Buffers;  // what a pass writes between its kernels
    struct Product;  // one matrix and where its output goes
    struct AttentionTask;
    struct Quantised;
    using KindSet = uint32_t;  // bit k: ActivationKind k

    // What the inputs of these matrices have to be quantised to: one input may serve matrices of several types.
    KindSet kinds(std::initializer_list<const MatrixView*> matrices) const;
    void run_pass(std::span<BatchItem> batch);
    void embed();
    void run_layer(uint32_t layer, std::span<const BatchItem> batch);
    void keys_and_values(uint32_t layer, std::span<const BatchItem> batch);
    void keep_rows_with_logits();
    void attention_block(uint32_t layer, std::span<const BatchItem> batch);
    void feed_forward_block(uint32_t layer);
    void logits();

    void norm_and_quantise(std::span<const float> weight, KindSet kinds, uint32_t layer, Place place);
    void quantise(const float* x, uint32_t cols, KindSet kinds, uint32_t layer, Place place);
    void hold_quantised(uint32_t rows, uint32_t cols, KindSet kinds);
    bool quantise_row(const float* x, uint32_t cols, KindSet kinds, uint32_t row);
    void multiply(std::initializer_list<Product> products);
    void rope_and_store(uint32_t layer, std::span<const BatchItem> batch);
    void attend(uint32_t layer, std::span<const BatchItem> batch);
    // `next`: the keys and values of the task after this one.
    void attend_rows(uint32_t layer, uint32_t kv_head, const AttentionTask& task, const uint8_t* next,
                     std::span<const BatchItem> batch);
    void add_to_residual();
    // Notes the first place where a row's numbers were not finite.
    void note(uint32_t row, uint32_t layer, Place place, bool finite);
    void report_faults(std::span<BatchItem> batch, std::span<const StepRow> rows);
    uint8_t* kv_head(const BatchItem& item, uint32_t position, uint32_t layer, uint32_t kv_head);

    const Kernels kernels_;  // without holes
    DecoderSpec spec_;       // views of weights and a few numbers
    Subnormals subnormals_;
    std::unique_ptr<HostKvPool> pool_;
    RopeTable rope_;
    float query_scale_;  // log2(e) / sqrt(head_dim)
    ThreadPool threads_;
    std::span<const StepRow> rows_;  // of the pass in progress; in the last layer those that have logits
    std::vector<uint32_t> origin_;   // which row of the pass each of them is
    std::vector<StepRow> kept_;
    std::unique_ptr<Buffers> buffers_;
};

}  // namespace driftwood::compute
