// What engines share of a step: its rows, and what they say when numbers are not finite. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/engine.h"

namespace driftwood::compute {

// One token of one item.
struct StepRow {
    uint32_t item = 0;
    uint32_t token = 0;
    uint32_t position = 0;
    float* logits = nullptr;  // [vocab] or null
};

// CHECKs what BatchItem states.
void check_batch(const DecoderSpec& spec, std::span<const BatchItem> batch);

// All rows of the batch, item by item.
std::vector<StepRow> step_rows(const DecoderSpec& spec, std::span<const BatchItem> batch);

// Tensors whose numbers are looked at, in the order in which a layer makes them.
enum class Place : uint32_t {
    kAttnNorm,
    kQuery,
    kKey,
    kValue,
    kAttention,
    kFfnNorm,
    kFeedForward,
    kOutputNorm,
    kLogits,
    kCount
};

// A place of the walk as a number above 0 that ascends in its order. The last two places are "layer" spec.layers.
constexpr uint32_t fault_code(uint32_t layer, Place place) {
    return layer * static_cast<uint32_t>(Place::kCount) + static_cast<uint32_t>(place) + 1;
}

// Whether a fault is one of its row: past the last layer's keys and values, a row without logits is not looked at,
// since an engine need not compute it.
bool fault_counts(const DecoderSpec& spec, const StepRow& row, uint32_t code);

// kNotFinite, with the place and the position named.
Error fault_error(uint32_t code, uint32_t position);

// For every item that failed: its logits become zeros, its KV rows of this step are cleared.
void clear_failed(std::span<BatchItem> batch, KvPool& pool);

// log2(e) / sqrt(head_dim), rounded to float once: both are correctly rounded in double on every machine.
float score_scale(uint32_t head_dim);

}  // namespace driftwood::compute
