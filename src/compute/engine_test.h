// What tests of engines share: a sequence with its blocks, fed through an engine in chunks.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "compute/engine.h"
#include "compute/math.h"
#include "compute/test_spec.h"

namespace driftwood::compute {

inline std::unique_ptr<Engine> test_engine(const char* name, const DecoderSpec& spec, EngineOptions options = {}) {
    if (options.threads == 0) options.threads = 1;
    if (options.kv_blocks == 0) options.kv_blocks = 64;
    auto engine = make_engine(name, spec, options);
    if (!engine.ok()) {
        ADD_FAILURE() << engine.error().message;
        return nullptr;
    }
    return std::move(engine).value();
}

inline bool engine_available(std::string_view name) {
    for (const EngineInfo& info : engines()) {
        if (info.name == name) return info.available;
    }
    return false;
}

// One conversation: its blocks, and the logits of every token fed so far.
struct TestSequence {
    std::vector<BlockId> blocks;
    uint32_t length = 0;
    std::vector<float> logits;  // [length, vocab]

    // An item that appends `tokens` and wants all their logits. Valid until the next call.
    BatchItem item(Engine& engine, std::span<const uint32_t> tokens) {
        const auto count = static_cast<uint32_t>(tokens.size());
        const size_t vocab = engine.spec().vocab;
        while (blocks.size() * kBlockTokens < length + count) blocks.push_back(engine.pool().allocate().value());
        logits.resize((length + count) * vocab);
        BatchItem item;
        item.tokens = tokens;
        item.first_position = length;
        item.blocks = blocks;
        item.logits = std::span(logits).subspan(length * vocab);
        length += count;
        return item;
    }

    // The bytes of all blocks.
    std::vector<uint8_t> kv(const Engine& engine) const {
        std::vector<uint8_t> all;
        for (const BlockId block : blocks) {
            const auto bytes = const_cast<Engine&>(engine).pool().bytes(block);
            all.insert(all.end(), bytes.begin(), bytes.end());
        }
        return all;
    }
};

// Feeds `tokens` in chunks of `chunk`, expecting no errors.
inline TestSequence run_sequence(Engine& engine, std::span<const uint32_t> tokens, size_t chunk) {
    TestSequence sequence;
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
        BatchItem item = sequence.item(engine, tokens.subspan(begin, std::min(chunk, tokens.size() - begin)));
        engine.step({&item, 1});
        EXPECT_FALSE(item.error) << item.error->message;
    }
    return sequence;
}

// Bits, not values.
inline ::testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " values against " << b.size();
    for (size_t i = 0; i < a.size(); ++i) {
        if (float_bits(a[i]) != float_bits(b[i])) {
            return ::testing::AssertionFailure() << "value " << i << ": " << a[i] << " against " << b[i];
        }
    }
    return ::testing::AssertionSuccess();
}

}  // namespace driftwood::compute
