// One token of one conversation through the whole decoder as one persistent kernel, where compute capability is 9.0: a
// block on each multiprocessor, all of them there at once (a cooperative launch). Weights stream into a ring in shared
// memory through all phases and layers without a pause, so that waiting for the other blocks costs no bandwidth; what
// blocks tell each other are words with a tag (decode_exchange.cuh), there is no barrier over the card.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/cuda/kernels.h"
#include "compute/decoder_spec.h"

namespace driftwood::compute::cuda {

struct StepLayer {
    const float* attn_norm;
    const float* ffn_norm;
    TiledMatrix wq, wk, wv, wo, w_gate, w_up, w_down;
};

// What a block of the kernel tells the host, in memory of the host: word step << 32 | tiles of logits that are written,
// with kStepDone once the block has ended and `fault` is there.
struct StepNote {
    uint64_t word;
    uint32_t fault;
    uint32_t unused;
};
inline constexpr uint32_t kStepDone = 0x80000000U;

// Words with tags between blocks, on the card.
struct StepExchange {
    uint64_t* hidden = nullptr;        // [d_model] the residual after a layer's attention
    uint64_t* residual = nullptr;      // [d_model] after a layer
    uint64_t* qkv = nullptr;           // [q, k and v of all heads]
    uint64_t* attended = nullptr;      // [heads, head_dim]
    uint64_t* gated = nullptr;         // [d_ff]
    uint64_t* gated_words = nullptr;   // its activations, as a block has them: [super-block][64 or, in digits, 128]
    uint64_t* gated_scales = nullptr;  // [super-block], or of A32P [group]
    uint64_t* part = nullptr;          // [m, l, exponent][heads, max_chunks]
    uint64_t* part_sum = nullptr;      // [heads, max_chunks, head_dim]
};

struct DecodeStep {
    // The model.
    const StepLayer* layer = nullptr;  // [layers]
    TiledMatrix embedding, output;
    const float* output_norm = nullptr;
    uint32_t layers = 0, d_model = 0, heads = 0, kv_heads = 0, head_dim = 0, d_ff = 0;
    float inverse_width = 0.0F, eps = 0.0F, query_scale = 0.0F;  // 1 / d_model
    RopePairs pairs = RopePairs::kAdjacent;
    const float* cosine = nullptr;  // [positions, head_dim / 2]
    const float* sine = nullptr;
    // Between blocks, and to the host.
    StepExchange exchange;
    uint32_t max_chunks = 0;
    StepNote* note = nullptr;  // [blocks of the kernel]
    float* logits = nullptr;   // [vocab], in memory of the host
    // Of the step. Tags from `tag - 1` to `tag + layers - 1` are new to every word of the exchange.
    uint8_t* const* block = nullptr;  // the conversation's, in memory of the host
    uint32_t token = 0, position = 0, step = 0, tag = 0;
    bool with_logits = false;
    bool in_rounds = false;  // whether the host wants to know of logits as they come out, or once all are there
};

// How the kernel is launched for a model on this card; blocks = 0 where it cannot be, and other kernels do the work.
struct DecodePlan {
    uint32_t blocks = 0;
    uint32_t stages = 0;  // of the ring
    uint32_t stage_bytes = 0;
    uint32_t activation_bytes = 0;       // of a column: 1, or 2 where any matrix takes 16 bits
    WeightType only = WeightType::kF32;  // what all matrices are, where that has a kernel of its own; kF32 elsewhere
    uint32_t most_chunks = 0;
    size_t shared_bytes = 0;
};
// `layers`: what model.layer points to on the card.
DecodePlan plan_decode_step(const DecodeStep& model, std::span<const StepLayer> layers);

// The kernel as a graph of one node: launched so, it begins sooner.
class StepGraph {
  public:
    StepGraph() = default;
    StepGraph(const StepGraph&) = delete;
    StepGraph& operator=(const StepGraph&) = delete;
    ~StepGraph();
    // Always of one plan.
    cudaError_t launch(cudaStream_t stream, const DecodePlan& plan, const DecodeStep& args);

  private:
    cudaError_t make(const cudaKernelNodeParams& params);

    cudaGraph_t graph_ = nullptr;
    cudaGraphNode_t node_ = nullptr;
    cudaGraphExec_t exec_ = nullptr;
};

// Tiles [begin, end) of an output that block `index` writes; at most kMostStepTiles in all.
inline constexpr uint32_t kMostStepTiles = 1U << 20;
struct StepShare {
    uint32_t begin, end;
};
constexpr StepShare step_share(uint32_t tiles, uint32_t index, uint32_t blocks) {
    return {tiles * index / blocks, tiles * (index + 1) / blocks};
}

}  // namespace driftwood::compute::cuda
