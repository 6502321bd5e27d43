// Engine: an implementation of the decoder on a device. Every engine gives the same bits (docs/numerics.md), so callers
// choose one by speed alone.
//
// An engine owns its pool of KV blocks. Threads: one submitting thread calls step() and the pool; the engine may use
// worker threads inside a step, which wait briefly and then sleep. Lifetime: the spec's weights outlive the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fp_environment.h"
#include "base/result.h"
#include "compute/decoder_spec.h"
#include "compute/kv.h"
#include "compute/logits.h"

namespace driftwood::compute {

inline constexpr uint32_t kNumericsVersion = 1;

// One sequence's part of a step: `tokens` are appended at positions first_position, first_position + 1, …
struct BatchItem {
    std::span<const uint32_t> tokens;  // 1…kMaxStepTokens, each < vocab; positions < spec.context
    uint32_t first_position = 0;
    // The sequence's table: block i holds positions [64 i, 64 i + 64); covers first_position + tokens.size(). The
    // blocks that this step writes belong to this sequence alone.
    std::span<const BlockId> blocks;
    // Where logits go: empty (none), vocab floats (of the last token) or tokens.size() * vocab floats (of every token).
    std::span<float> logits;
    // Out: an item whose activations turn NaN or infinite fails alone (kNotFinite), with the layer and the tensor
    // named; its KV rows of this step are cleared and its logits are zeros.
    std::optional<Error> error;
};

inline constexpr uint32_t kMaxStepTokens = 2048;  // tokens of one item; longer prompts come in chunks

// One line of what an engine does with memory.
struct MemoryPart {
    std::string what;
    uint64_t bytes = 0;
    std::string why;  // what it is for, and what happens at its end
};

class Engine {
  public:
    virtual ~Engine() = default;
    virtual std::string_view name() const = 0;  // "reference", "avx2", "avx512", ...
    virtual const DecoderSpec& spec() const = 0;
    virtual KvPool& pool() = 0;
    // Whether steps read the spec's weights where they lie; a card has its own copies.
    virtual bool reads_weights_in_place() const { return true; }
    // Runs all items; sequences of different items are independent. Preconditions as stated at BatchItem (CHECKed).
    virtual void step(std::span<BatchItem> batch) = 0;
    // Memory for the logits of one token, [vocab], that step() fills soonest: of a card, what the card writes into by
    // itself. Other memory is filled by way of a copy.
    virtual Logits logits_memory() { return Logits(spec().vocab); }
    // How the engine's memory was divided when it was made; the order is that of the plan.
    virtual std::vector<MemoryPart> memory() const { return {}; }
    // Why this engine does nothing any more: its device failed. Sessions go on elsewhere from their tokens.
    virtual std::optional<Error> failure() const { return std::nullopt; }
};

inline constexpr uint32_t kHostBlocksAuto = 0xFFFFFFFFU;

struct EngineOptions {
    uint32_t threads = 0;  // 0: the cores this process may use
    // Blocks of KV in the engine's own memory; 0: what is free when the engine is made, on the host or on the card
    // (on the host at most 64 GiB, and memory is taken as it is used).
    uint32_t kv_blocks = 0;
    // A card's blocks beyond those, which take turns on it and wait in pinned host memory; by default what half of the
    // host's free memory holds.
    uint32_t kv_host_blocks = kHostBlocksAuto;
    // kFlush computes as a device does that cannot keep subnormals; the same bits come out (a test holds it to that).
    Subnormals subnormals = Subnormals::kKeep;
};

// The engines this program was built with, fastest first, and whether this machine can run them.
struct EngineInfo {
    std::string_view name;
    bool available = false;
    std::string_view needs;  // "AVX-512 F, BW, VL, VNNI"
};
std::span<const EngineInfo> engines();

// Makes the engine of that name, or ("auto") the fastest one that this machine runs and that takes this model.
// kUnsupported names what is missing.
Result<std::unique_ptr<Engine>> make_engine(std::string_view name, const DecoderSpec& spec,
                                            const EngineOptions& options);

}  // namespace driftwood::compute
