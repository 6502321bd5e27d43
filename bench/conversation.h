// What the programs about cards share: a model's shapes, a clock, and a conversation that feeds an engine by itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "compute/engine.h"
#include "compute/test_spec.h"

namespace driftwood::compute {

// Llama 3.2 1B.
inline constexpr TestShape kLlama1B = {.layers = 16,
                                       .d_model = 2048,
                                       .heads = 32,
                                       .kv_heads = 8,
                                       .head_dim = 64,
                                       .d_ff = 8192,
                                       .vocab = 128256,
                                       .context = 131072,
                                       .tied = true};

// Llama 3.1 8B. Its layers share their bytes on the host, so that it is there in seconds.
inline constexpr TestShape kLlama8B = {.layers = 32,
                                       .d_model = 4096,
                                       .heads = 32,
                                       .kv_heads = 8,
                                       .head_dim = 128,
                                       .d_ff = 14336,
                                       .vocab = 128256,
                                       .context = 131072,
                                       .layers_alike = true};

inline double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Where a conversation's logits go.
enum class LogitsIn : uint8_t { kEnginesMemory, kOrdinaryMemory };

// Blocks, length and last logits of one sequence. Does not outlive the engine; gives its blocks back when told to.
struct Conversation {
    std::vector<BlockId> blocks;
    uint32_t length = 0;
    Logits logits;
    LogitsIn logits_in = LogitsIn::kEnginesMemory;

    BatchItem item(Engine& engine, std::span<const uint32_t> tokens, bool want_logits = true) {
        while (blocks.size() * kBlockTokens < length + tokens.size()) {
            blocks.push_back(engine.pool().allocate().value());
        }
        if (!want_logits) {
            logits = {};
        } else if (logits.empty()) {
            logits = logits_in == LogitsIn::kEnginesMemory ? engine.logits_memory() : Logits(engine.spec().vocab);
        }
        BatchItem item{
            .tokens = tokens, .first_position = length, .blocks = blocks, .logits = logits.values(), .error = {}};
        length += static_cast<uint32_t>(tokens.size());
        return item;
    }
    void release(Engine& engine) {
        for (const BlockId block : blocks) engine.pool().release(block);
        blocks.clear();
        length = 0;
    }
};

// A step in which nothing may fail.
inline void run(Engine& engine, std::span<BatchItem> batch) {
    engine.step(batch);
    for (const BatchItem& item : batch) {
        if (item.error) check_failed(item.error->message);
    }
}

}  // namespace driftwood::compute
