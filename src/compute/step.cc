#include "compute/step.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/check.h"

namespace driftwood::compute {

void check_batch(const DecoderSpec& spec, std::span<const BatchItem> batch) {
    for (const BatchItem& item : batch) {
        const size_t count = item.tokens.size();
        CHECK(count >= 1 && count <= kMaxStepTokens);
        const size_t end = item.first_position + count;
        CHECK(end <= spec.context && end <= item.blocks.size() * kBlockTokens);
        CHECK(item.logits.empty() || item.logits.size() == spec.vocab || item.logits.size() == count * spec.vocab);
        CHECK(std::all_of(item.tokens.begin(), item.tokens.end(), [&](uint32_t t) { return t < spec.vocab; }));
    }
}

std::vector<StepRow> step_rows(const DecoderSpec& spec, std::span<const BatchItem> batch) {
    std::vector<StepRow> rows;
    for (uint32_t i = 0; i < batch.size(); ++i) {
        const BatchItem& item = batch[i];
        const auto count = static_cast<uint32_t>(item.tokens.size());
        const bool every = item.logits.size() == size_t{count} * spec.vocab;
        for (uint32_t t = 0; t < count; ++t) {
            StepRow row{.item = i, .token = item.tokens[t], .position = item.first_position + t};
            if (every) row.logits = item.logits.data() + size_t{t} * spec.vocab;
            if (!every && !item.logits.empty() && t + 1 == count) row.logits = item.logits.data();
            rows.push_back(row);
        }
    }
    return rows;
}

bool fault_counts(const DecoderSpec& spec, const StepRow& row, uint32_t code) {
    return row.logits != nullptr || code <= fault_code(spec.layers - 1, Place::kValue);
}

Error fault_error(uint32_t code, uint32_t position) {
    static constexpr const char* kNames[] = {"attn_norm", "q",           "k", "v", "attention",
                                             "ffn_norm",  "w_gate/w_up", "",  "",  ""};
    const uint32_t layer = (code - 1) / static_cast<uint32_t>(Place::kCount);
    const auto place = static_cast<Place>((code - 1) % static_cast<uint32_t>(Place::kCount));
    std::string tensor = "layers." + std::to_string(layer) + "." + kNames[static_cast<uint32_t>(place)];
    if (place == Place::kOutputNorm) tensor = "output_norm";
    if (place == Place::kLogits) tensor = "logits";
    return error(ErrorCode::kNotFinite, "[compute.step] " + tensor +
                                            ": want finite numbers, got NaN, infinity or scores beyond 2^22 at "
                                            "position " +
                                            std::to_string(position) + "; the model's weights do not fit this input");
}

void clear_failed(std::span<BatchItem> batch, KvPool& pool) {
    for (BatchItem& item : batch) {
        if (!item.error) continue;
        std::fill(item.logits.begin(), item.logits.end(), 0.0F);
        const size_t end = item.first_position + item.tokens.size();
        for (size_t b = item.first_position / kBlockTokens; b * kBlockTokens < end; ++b) {
            const size_t start = b * kBlockTokens;
            pool.clear_rows(item.blocks[b],
                            static_cast<uint32_t>(std::max<size_t>(item.first_position, start) - start));
        }
    }
}

float score_scale(uint32_t head_dim) {
    return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace driftwood::compute
