// The step as a whole: which items have their blocks on the card together, what is whose error, and how the card's
// memory is divided. engine.cc has the pass.
#include <algorithm>

#include "compute/cuda/engine.h"

namespace driftwood::compute::cuda {

Result<void> CudaEngine::make_pool(const EngineOptions& options, size_t free_at_start, size_t free_after_weights) {
    DW_ASSIGN(const size_t rest, free_card_memory());
    const KvLayout layout{.layers = spec_.layers, .kv_heads = spec_.kv_heads, .head_dim = spec_.head_dim};
    DW_ASSIGN(pool_, make_kv_pool(layout, options.kv_blocks, options.kv_host_blocks, stream_, threads_));
    const uint64_t block = layout.block_bytes();
    const PagedKvPool::Limits& limits = pool_->limits();
    const auto blocks = [&](uint64_t count) {
        return std::to_string(count) + " of " + std::to_string(block) + " bytes, " +
               std::to_string(count * kBlockTokens) + " tokens";
    };
    plan_ = {
        {"free", free_at_start, "on the card, before anything was taken"},
        {"weights", free_at_start - free_after_weights, "copied and repacked once; too large is an error at start"},
        {"buffers", free_after_weights - rest,
         "of a step of up to " + std::to_string(kPassRows) + " tokens, and tables of angles"},
        {"reserve", std::min<uint64_t>(kReserveBytes, rest),
         "for logits, tables of blocks and sums of attention, which grow with the largest step; at its end a step "
         "fails alone"},
        {"KV blocks", limits.card_blocks * block,
         blocks(limits.card_blocks) + "; at their end, those that were not used for longest go to the host"},
        {"KV blocks on the host", limits.host_blocks * block,
         blocks(limits.host_blocks) + "; pinned memory, taken as it is needed; at its end a request for one fails"},
        {"logits on the host", pinned_.most_bytes(),
         "at most, pinned as conversations need them; beyond that logits are copied into ordinary memory"}};
    return {};
}

// ---- a step

void CudaEngine::step(std::span<BatchItem> batch) {
    const FpEnvironment environment;  // for tables of angles
    check_batch(spec_, batch);
    for (BatchItem& item : batch) item.error.reset();
    for (size_t begin = 0; begin < batch.size() && !failure_;) {
        const size_t end = bring_group(batch, begin);
        step_group(batch.subspan(begin, end - begin));
        begin = end;
    }
    if (failure_) {
        pool_->fail(*failure_);
        for (BatchItem& item : batch) item.error = failure_;
    }
    clear_failed(batch, *pool_);
}

size_t CudaEngine::bring_group(std::span<BatchItem> batch, size_t first) {
    pool_->begin_step();
    for (size_t i = first; i < batch.size(); ++i) {
        const size_t tokens = batch[i].first_position + batch[i].tokens.size();
        auto there = pool_->bring(batch[i].blocks.first((tokens + kBlockTokens - 1) / kBlockTokens));
        if (there.ok()) continue;
        if (pool_->failure()) failure_ = pool_->failure();
        if (i > first) return i;  // it comes with the next group
        batch[i].error = std::move(there).error();
        return i + 1;
    }
    return batch.size();
}

void CudaEngine::step_group(std::span<BatchItem> batch) {
    std::vector<StepRow> rows = step_rows(spec_, batch);
    std::erase_if(rows, [&](const StepRow& row) { return batch[row.item].error.has_value(); });
    for (size_t begin = 0; begin < rows.size() && !failure_; begin += kPassRows) {
        const auto pass = std::span(rows).subspan(begin, std::min<size_t>(kPassRows, rows.size() - begin));
        auto ran = run_pass(batch, pass);
        if (!ran.ok()) {
            // What is still under way may be on its way into callers' memory.
            for (const Stream* stream : {&stream_, &copies_}) static_cast<void>(stream->wait());
        }
        if (!ran.ok() && ran.error().code == ErrorCode::kLimit) {
            for (const StepRow& row : pass) batch[row.item].error = ran.error();
        } else if (!ran.ok()) {
            failure_ = failed_card(ran.error());
        }
        if (pool_->failure() && !failure_) failure_ = pool_->failure();
        if (!failure_) pool_->waited();
    }
}

}  // namespace driftwood::compute::cuda
