// The persistent kernel of decode_step.h. Of each block, sixteen warps walk through the decoder, one lane of another
// keeps weights coming, and a third finds out what attention has to do, does what one warp somewhere does for all
// blocks (it merges what attention leaves, and quantises SILU(gate) · up), and at last tells the host what is done.
//
// A layer has seven places where blocks wait for each other's words: the residual before its norms (twice), q, k and v,
// the parts of attention, the merged heads, SILU(gate) · up and its activations. What lies between two of them every
// block does for itself: norms and quantising by all, products for its share of the rows.
#include "compute/cuda/decode_step.h"

#include <algorithm>

#include "compute/cuda/decode_attention.cuh"
#include "compute/cuda/decode_notes.cuh"
#include "compute/cuda/embed.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kFetchWarp = kMultipliers;
constexpr uint32_t kNoteWarp = kMultipliers + 1;
constexpr uint32_t kStepThreads = (kMultipliers + 2) * 32;
constexpr uint32_t kMostOwnRows = 128;  // of the residual, of one block
constexpr uint32_t kLeastStages = 4;

// The products of a layer, and the one after the last. They share their code, and what a block has to do in each is
// found once: what runs once a layer has no time for divisions, nor for code that comes from memory each time.
enum class Phase : uint32_t { kQkv, kWo, kPair, kDown, kOutput };
constexpr uint32_t kPhases = 5;

struct PhaseShare {
    uint32_t first_row;     // of the block's, gate and up being one
    uint32_t tiles;         // of the block, of all matrices
    uint32_t super_blocks;  // of a row
    uint32_t round_tiles;
};

template <uint32_t kHeadDim>
struct StepShared {
    Chunk<kHeadDim> chunk[kChunkGroups];
    union {
        LinearScratch linear;
        AttentionScratch<kHeadDim> attention;
    } scratch;
    alignas(16) float block_sum[kMostNormBlocks];
    float own[kMostOwnRows];
    ChunkUnit unit[kMostChunkUnits];
    Angles<kHeadDim / 64> angles[32];
    uint32_t units, group;  // chunks that the block attends to; queries of a KV head
    MergeFactors merge[kMergeLoads];
    uint32_t shared_q[kSuperBlock / 2];  // a super-block of activations for all blocks
    float shared_scale[kGroupsPerSuperBlock];
    PhaseShare phase[kPhases];
    CopyBarrier full[kMostStages], empty[kMostStages];
    uint32_t fault;
    uint32_t written;
};

__device__ StepShare share_of(uint32_t tiles) { return step_share(tiles, blockIdx.x, gridDim.x); }

__device__ PhaseShare find_share(const DecodeStep& args, Phase phase) {
    const uint32_t q_rows = args.heads * args.head_dim;
    uint32_t rows = args.d_model;
    uint32_t cols = args.d_model;
    if (phase == Phase::kQkv) rows = q_rows + 2 * args.kv_heads * args.head_dim;
    if (phase == Phase::kWo) cols = q_rows;
    if (phase == Phase::kPair) rows = args.d_ff;
    if (phase == Phase::kDown) cols = args.d_ff;
    if (phase == Phase::kOutput) rows = args.output.rows;
    const uint32_t matrices = phase == Phase::kPair ? 2 : 1;
    const StepShare share = share_of(tiles_of(rows));
    const uint32_t super_blocks = super_blocks_of(cols);
    const uint32_t most_tiles = min(kRoundUnits / super_blocks, kRoundParts / (kTileRows * row_parts(super_blocks)));
    return {share.begin * kTileRows, (share.end - share.begin) * matrices, super_blocks,
            most_tiles / matrices * matrices};
}

// What a block walks through: four phases a layer, and the last.
__device__ uint32_t phases_of(const DecodeStep& args) { return 4 * args.layers + (args.with_logits ? 1 : 0); }
__device__ Phase phase_of(const DecodeStep& args, uint32_t i) {
    return i / 4 == args.layers ? Phase::kOutput : static_cast<Phase>(i % 4);
}

// ---- the lane that fetches: all tiles of the block, in the order of the walk

template <StepTypes kTypes>
__device__ void fetch_weights(const DecodeStep& args, const StepLayer* layers, const PhaseShare* shares,
                              const Ring& stages) {
    RingFeeder ring{stages};
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    const uint32_t phases = phases_of(args);
    for (uint32_t i = 0; i < phases; ++i) {
        const Phase phase = phase_of(args, i);
        const StepLayer& layer = layers[phase == Phase::kOutput ? 0 : i / 4];
        const TiledMatrix* const first = phase == Phase::kQkv    ? &layer.wq
                                         : phase == Phase::kWo   ? &layer.wo
                                         : phase == Phase::kPair ? &layer.w_gate
                                         : phase == Phase::kDown ? &layer.w_down
                                                                 : &args.output;
        const PhaseShare share = shares[static_cast<uint32_t>(phase)];
        for (uint32_t n = 0; n < share.tiles; ++n) {
            const bool pair = phase == Phase::kPair;
            const TiledMatrix* matrix = first + (pair ? n % 2 : 0);
            uint32_t tile = share.first_row / kTileRows + (pair ? n / 2 : n);
            while (phase == Phase::kQkv && tile >= tiles_of(matrix->rows)) tile -= tiles_of((matrix++)->rows);
            ring.send<!are_tiles(kTypes)>(*matrix, tile, policy);
        }
    }
}

// ---- the walk

template <StepTypes kTypes>
__device__ float embedding_value(const DecodeStep& args, uint32_t col) {
    if (!are_tiles(kTypes) && !in_tiles(args.embedding)) {
        return embedded_untiled(args.embedding, args.token, col);
    }
    return args.embedding.type == WeightType::kQ8_0 ? embedded<WeightType::kQ8_0>(args.embedding, args.token, col)
                                                    : embedded<WeightType::kQ4_0>(args.embedding, args.token, col);
}

// What a phase does in layer `index`.
struct PhaseInLayer {
    Inputs in;
    const TiledMatrix* matrix;  // the first
    uint64_t* to;               // the exchange that takes the rows
    uint32_t tag;
};

template <StepTypes kTypes>
__device__ Inputs inputs_of(const TiledMatrix& matrix, const uint64_t* from, uint32_t tag, uint32_t n,
                            const float* norm, uint32_t code) {
    ActivationKind kind = matrix.kind;
    if (kTypes == StepTypes::kQ4_0) kind = ActivationKind::kA256;
    if (kTypes == StepTypes::kQ8_0) kind = ActivationKind::kA32P;
    if (kTypes == StepTypes::kW16) kind = ActivationKind::kA16;
    const bool tiles = are_tiles(kTypes) || (kTypes == StepTypes::kAny && in_tiles(matrix));
    return {from, nullptr, tag, n, norm, kind, tiles, code};
}

template <StepTypes kTypes>
__device__ PhaseInLayer phase_in_layer(const DecodeStep& args, const StepLayer* layers, uint32_t index, Phase phase) {
    const StepExchange& exchange = args.exchange;
    const uint32_t tag = args.tag + index;
    const StepLayer& layer = layers[index];
    const auto in = [&](const uint64_t* from, uint32_t from_tag, uint32_t n, const float* norm, const TiledMatrix& m,
                        Place place) {
        return inputs_of<kTypes>(m, from, from_tag, n, norm, fault_code(index, place));
    };
    // Of index 0: the embedding, with the tag before the first.
    switch (phase) {
        case Phase::kQkv:
            return {in(exchange.residual, tag - 1, args.d_model, layer.attn_norm, layer.wq, Place::kAttnNorm),
                    &layer.wq, exchange.qkv, tag};
        case Phase::kWo:
            return {in(exchange.attended, tag, args.heads * args.head_dim, nullptr, layer.wo, Place::kAttention),
                    &layer.wo, exchange.hidden, tag};
        case Phase::kPair:
            return {in(exchange.hidden, tag, args.d_model, layer.ffn_norm, layer.w_gate, Place::kFfnNorm),
                    &layer.w_gate, exchange.gated, tag};
        case Phase::kDown: {
            PhaseInLayer made = {in(exchange.gated_words, tag, args.d_ff, nullptr, layer.w_down, Place::kFeedForward),
                                 &layer.w_down, exchange.residual, tag};
            made.in.scales = exchange.gated_scales;
            return made;
        }
        default:
            return {in(exchange.residual, tag - 1, args.d_model, args.output_norm, args.output, Place::kOutputNorm),
                    &args.output, nullptr, tag};
    }
}

// The block's share of what is done once for all blocks, layer after layer, by a warp that does nothing else meanwhile.
template <StepTypes kTypes, uint32_t kHeadDim>
__device__ void serve_blocks(const DecodeStep& args, const StepLayer* layers, StepShared<kHeadDim>& shared) {
    const StepExchange& exchange = args.exchange;
    const Worker w{0, threadIdx.x % 32, shared.shared_q, shared.shared_scale, nullptr, nullptr, &shared.fault, Ring{}};
    for (uint32_t layer = 0; layer < args.layers; ++layer) {
        const uint32_t tag = args.tag + layer;
        merge_heads<kHeadDim>(args, shared.merge, tag);
        const Inputs in = inputs_of<kTypes>(layers[layer].w_down, exchange.gated, tag, args.d_ff, nullptr,
                                            fault_code(layer, Place::kFeedForward));
        for (uint32_t sb = blockIdx.x; sb < super_blocks_of(args.d_ff); sb += gridDim.x) {
            share_super_block(w, in, sb, exchange.gated_words, exchange.gated_scales);
        }
    }
}

// The matrix of q, k or v that has tile `tile` of all three; of `count` tiles from it on, those of one type.
__device__ const TiledMatrix& matrix_of_qkv(const DecodeStep& args, const StepLayer& layer, uint32_t tile,
                                            uint32_t& count) {
    const uint32_t q_tiles = args.heads * args.head_dim / kTileRows;
    const uint32_t kv_tiles = args.kv_heads * args.head_dim / kTileRows;
    const TiledMatrix* const matrix = &layer.wq;
    const uint32_t i = tile < q_tiles ? 0 : tile < q_tiles + kv_tiles ? 1 : 2;
    uint32_t end = tile + count;
    if (i < 2 && layer.wv.type != layer.wk.type) end = min(end, q_tiles + kv_tiles);
    if (i < 1 && layer.wk.type != layer.wq.type) end = min(end, q_tiles);
    count = end - tile;
    return matrix[i];
}

// A thread's row of a round.
struct RowToEmit {
    bool in_round;   // whether the thread has parts to join
    bool emits;      // whether it has a row: of gate and up, who has gate's
    bool in_rounds;  // whether the host wants to know of the round before
    uint32_t parts;  // their address
    uint32_t row;
    uint64_t* to;
    float* own;
    float residual;  // before this phase
};

// A row's sum becomes its output.
__device__ void emit_row(const Worker& w, const DecodeStep& args, const RowToEmit& out, Phase phase, float value,
                         float up, uint32_t tag) {
    if (phase == Phase::kOutput) {
        if (out.row >= args.output.rows) return;
        args.logits[out.row] = value;
        if (magnitude_bits(value) >= kInfinityBits) atomicMin(w.fault, fault_code(args.layers, Place::kLogits));
        return;
    }
    if (phase == Phase::kPair) value = __fmul_rn(silu(value), up);
    if (phase == Phase::kWo || phase == Phase::kDown) value = *out.own = __fadd_rn(out.residual, value);
    publish(out.to, value, tag);
}

template <uint32_t kHeadDim, StepTypes kTypes>
__device__ void run_phase(Worker& w, const DecodeStep& args, const StepLayer* layers, uint32_t index, Phase phase,
                          StepShared<kHeadDim>& shared) {
    const PhaseShare share = shared.phase[static_cast<uint32_t>(phase)];
    if (share.tiles == 0) return;  // nobody would wait until the block has read what it has no use for
    const PhaseInLayer plan = phase_in_layer<kTypes>(args, layers, index, phase);
    if (phase == Phase::kWo || phase == Phase::kDown) {
        const float* norm = phase == Phase::kWo        ? layers[index].ffn_norm
                            : index + 1 == args.layers ? args.output_norm
                                                       : layers[index + 1].attn_norm;
        prefetch_norm(norm, args.d_model);
    }
    if (phase == Phase::kDown) {
        take_activations(w, plan.in);
    } else {
        make_activations(w, plan.in, args.inverse_width, args.eps);
    }
    const uint32_t pair = phase == Phase::kPair ? 1 : 0;
    const auto matrix_of = [&](uint32_t first, uint32_t& count) -> const TiledMatrix& {
        if (kTypes != StepTypes::kAny || phase != Phase::kQkv) return *plan.matrix;
        return matrix_of_qkv(args, layers[index], share.first_row / kTileRows + first, count);
    };
    static_assert(kRoundParts / 8 <= kMultiplyThreads);  // a row has at least 8 parts, padded: one is a thread's
    const auto prepare = [&](uint32_t first, uint32_t tiles, const float* part) {
        RowToEmit out;
        out.in_round = threadIdx.x < tiles * kTileRows;
        out.emits = out.in_round && (pair == 0 || w.lane < kTileRows);
        out.in_rounds = phase == Phase::kOutput && first > 0 && args.in_rounds;
        out.parts = shared_address(part + threadIdx.x * row_parts(share.super_blocks));
        const uint32_t row = (first >> pair) * kTileRows + (pair == 0 ? threadIdx.x : w.warp * kTileRows + w.lane);
        out.row = share.first_row + row;
        out.to = plan.to + out.row;
        out.own = &shared.own[row % kMostOwnRows];
        out.residual = *out.own;
        hold(out.parts);
        return out;
    };
    multiply_phase<kTypes>(
        w, share.tiles, share.super_blocks, share.round_tiles, matrix_of, prepare, [&](const RowToEmit& out) {
            if (out.in_rounds) {
                count_written(&shared.written, threadIdx.x < share.round_tiles * kTileRows);
            }
            if (!__any_sync(kAllLanes, out.in_round)) return;
            const float sum = out.in_round ? join_parts(w, plan.in.kind, out.parts, share.super_blocks) : 0.0F;
            // A tile of gate has its tile of up beside it.
            const float up = __shfl_down_sync(kAllLanes, sum, kTileRows);
            if (out.emits) emit_row(w, args, out, phase, sum, up, plan.tag);
        });
}

template <uint32_t kHeadDim>
__device__ ChunkWalk<kHeadDim> chunk_walk(const DecodeStep& args, StepShared<kHeadDim>& shared) {
    const uint32_t warp = threadIdx.x / 32;
    return {args,         shared.scratch.attention, shared.chunk,      shared.unit, shared.angles, shared.units,
            shared.group, warp / kGroupWarps,       warp % kGroupWarps};
}

template <uint32_t kHeadDim, StepTypes kTypes>
__device__ void walk(const DecodeStep& args, StepShared<kHeadDim>& shared, const StepLayer* layers, float* scale,
                     uint32_t* q, const Ring& ring) {
    const uint32_t warp = threadIdx.x / 32;
    Worker w{warp, threadIdx.x % 32, q, scale, shared.block_sum, &shared.scratch.linear, &shared.fault, ring};
    w.ring.slot = warp / kRingWarps;
    w.place = tile_place(q);
    const StepShare own = share_of(tiles_of(args.d_model));
    for (uint32_t i = threadIdx.x; i < (own.end - own.begin) * kTileRows; i += kMultiplyThreads) {
        const uint32_t col = own.begin * kTileRows + i;
        shared.own[i] = embedding_value<kTypes>(args, col);
        publish(args.exchange.residual + col, shared.own[i], args.tag - 1);
    }
    const uint32_t phases = phases_of(args);
    for (uint32_t i = 0; i < phases; ++i) {
        const uint32_t layer = i / 4;
        const Phase phase = phase_of(args, i);
        if (phase == Phase::kWo) {
            meet();  // attention works where the products did
            chunk_walk(args, shared).attend(w, layer, args.tag + layer);
        }
        run_phase<kHeadDim, kTypes>(w, args, layers, layer, phase, shared);
        if (i == 0) {
            wait_for_units();
            chunk_walk(args, shared).load(warp / kGroupWarps, 0);
        }
    }
    meet();
    count_written(&shared.written, args.with_logits);
}

// How dynamic shared memory is used: stages, activations from a multiple of kSuperBlock bytes on, StepShared, scales of
// activations, the layers.
struct StepMemory {
    uint32_t stages, stage_bytes;
    uint32_t q_at, q_bytes;
    uint32_t scales;  // floats
};

template <uint32_t kHeadDim, StepTypes kTypes>
__global__ void __launch_bounds__(kStepThreads, 1)
    decode_step_kernel(const __grid_constant__ DecodeStep args, const __grid_constant__ StepMemory layout) {
    extern __shared__ __align__(kSuperBlock) uint8_t memory[];
    const uint32_t stages = layout.stages;
    auto* q = reinterpret_cast<uint32_t*>(memory + layout.q_at);
    auto& shared = *reinterpret_cast<StepShared<kHeadDim>*>(memory + layout.q_at + layout.q_bytes);
    auto* scale = reinterpret_cast<float*>(&shared + 1);
    auto* layers = reinterpret_cast<StepLayer*>(scale + layout.scales);
    constexpr uint32_t kWords = sizeof(StepLayer) / sizeof(uint64_t);
    for (uint32_t i = threadIdx.x; i < args.layers * kWords; i += kStepThreads) {
        reinterpret_cast<uint64_t*>(layers)[i] = reinterpret_cast<const uint64_t*>(args.layer)[i];
    }
    const Ring ring{memory, shared.full, shared.empty, stages, layout.stage_bytes};
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < stages; ++i) {
            make_stage_barrier(shared.full[i], 1);
            make_stage_barrier(shared.empty[i], kRingWarps);
        }
        show_barriers();
        shared.fault = kNoFault;
        shared.written = 0;
    }
    if (threadIdx.x < kMostNormBlocks) shared.block_sum[threadIdx.x] = 0.0F;
    if (threadIdx.x < kPhases) shared.phase[threadIdx.x] = find_share(args, static_cast<Phase>(threadIdx.x));
    __syncthreads();
    const uint32_t warp = threadIdx.x / 32;
    if (warp < kMultipliers) {
        walk<kHeadDim, kTypes>(args, shared, layers, scale, q, ring);
    } else if (threadIdx.x == kFetchWarp * 32) {
        fetch_weights<kTypes>(args, layers, shared.phase, ring);
    } else if (warp == kNoteWarp) {
        const uint32_t units = find_units<kHeadDim>(args, shared.unit, shared.angles);
        if (threadIdx.x % 32 == 0) {
            shared.units = units;
            shared.group = args.heads / args.kv_heads;
        }
        units_found();
        serve_blocks<kTypes>(args, layers, shared);
        if (threadIdx.x % 32 == 0) {
            const PhaseShare& output = shared.phase[static_cast<uint32_t>(Phase::kOutput)];
            tell_host(args, &shared.written, &shared.fault, args.with_logits ? output.tiles : 0, output.round_tiles);
        }
    }
}

// Of any matrix.
uint32_t most_cols(const DecodeStep& model) {
    return std::max({model.d_model, model.d_ff, model.heads * model.head_dim});
}

StepMemory memory_of(const DecodePlan& plan, const DecodeStep& model) {
    const uint32_t groups = padded_groups(most_cols(model));
    const uint32_t q_at = (plan.stages * plan.stage_bytes + kSuperBlock - 1) / kSuperBlock * kSuperBlock;
    return {plan.stages, plan.stage_bytes, q_at, groups * kGroup * plan.activation_bytes, groups};
}

using StepKernel = void (*)(DecodeStep, StepMemory);
template <StepTypes kTypes>
StepKernel kernel_of(uint32_t head_dim) {
    return head_dim == 64 ? decode_step_kernel<64, kTypes> : decode_step_kernel<128, kTypes>;
}
StepKernel kernel_of(const DecodePlan& plan, uint32_t head_dim) {
    switch (plan.only) {
        case WeightType::kQ4_0: return kernel_of<StepTypes::kQ4_0>(head_dim);
        case WeightType::kQ8_0: return kernel_of<StepTypes::kQ8_0>(head_dim);
        case WeightType::kW16: return kernel_of<StepTypes::kW16>(head_dim);
        default: return kernel_of<StepTypes::kAny>(head_dim);
    }
}

// Gives `made`, which says what the model's weights want, the blocks and their memory.
DecodePlan plan_on_card(const DecodeStep& model, DecodePlan made) {
    int device = 0, major = 0, cooperative = 0, multiprocessors = 0, most_shared = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return {};
    const auto ask = [&](int& value, cudaDeviceAttr attribute) {
        return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess;
    };
    if (!ask(major, cudaDevAttrComputeCapabilityMajor) || !ask(cooperative, cudaDevAttrCooperativeLaunch) ||
        !ask(multiprocessors, cudaDevAttrMultiProcessorCount) ||
        !ask(most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin) || major != 9 || cooperative == 0) {
        return {};
    }
    const StepMemory memory = memory_of(made, model);
    const size_t fixed = kSuperBlock + (model.head_dim == 64 ? sizeof(StepShared<64>) : sizeof(StepShared<128>)) +
                         memory.scales * sizeof(float) + memory.q_bytes + model.layers * sizeof(StepLayer);
    const auto room = static_cast<size_t>(most_shared);
    if (room < fixed + kLeastStages * size_t{made.stage_bytes}) return {};
    made.stages =
        static_cast<uint32_t>(std::min<size_t>((room - fixed) / made.stage_bytes, kMostStages)) / kRings * kRings;
    made.shared_bytes = fixed + made.stages * size_t{made.stage_bytes};
    const auto blocks = static_cast<uint32_t>(multiprocessors);
    made.most_chunks = kMostChunkUnits * blocks / model.kv_heads;
    if ((tiles_of(model.d_model) + blocks - 1) / blocks * kTileRows > kMostOwnRows) return {};
    const StepKernel kernel = kernel_of(made, model.head_dim);
    int fit = 0;
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(made.shared_bytes)) != cudaSuccess ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&fit, kernel, kStepThreads, made.shared_bytes) != cudaSuccess ||
        fit == 0) {
        static_cast<void>(cudaGetLastError());  // it is not the next launch's
        return {};
    }
    made.blocks = blocks;
    return made;
}

// Whether activations for one are those for the other.
bool share_activations(const TiledMatrix& a, const TiledMatrix& b) {
    return a.kind == b.kind && in_tiles(a) == in_tiles(b);
}

}  // namespace

DecodePlan plan_decode_step(const DecodeStep& model, std::span<const StepLayer> layers) {
    bool fits = fast_attention(model.head_dim, model.heads / model.kv_heads) && most_cols(model) <= kMostCols &&
                tiles_of(std::max(model.output.rows, model.d_ff)) <= kMostStepTiles &&
                super_blocks_of(model.d_model) <= kMostNormBlocks;
    DecodePlan made{.activation_bytes = 1, .only = model.output.type};
    const auto take = [&](const TiledMatrix& matrix) {
        made.stage_bytes = std::max(made.stage_bytes, stage_bytes(matrix.type, matrix.kind));
        if (matrix.kind == ActivationKind::kA16) made.activation_bytes = 2;
        const bool has_kernel = in_tiles(matrix) || matrix.type == WeightType::kW16;
        if (!has_kernel || matrix.type != made.only) made.only = WeightType::kF32;
    };
    take(model.output);
    if (!in_tiles(model.embedding) && made.only != WeightType::kW16) made.only = WeightType::kF32;
    for (const StepLayer& layer : layers) {
        for (const TiledMatrix* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
            take(*matrix);
        }
        fits &= share_activations(layer.wk, layer.wq) && share_activations(layer.wv, layer.wq) &&
                layer.w_up.type == layer.w_gate.type;
    }
    return fits ? plan_on_card(model, made) : DecodePlan{};
}

StepGraph::~StepGraph() {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
}

cudaError_t StepGraph::make(const cudaKernelNodeParams& params) {
    cudaKernelNodeAttrValue together{};
    together.cooperative = 1;
    cudaError_t code = graph_ == nullptr ? cudaGraphCreate(&graph_, 0) : cudaSuccess;
    if (code == cudaSuccess && node_ == nullptr) code = cudaGraphAddKernelNode(&node_, graph_, nullptr, 0, &params);
    if (code == cudaSuccess) code = cudaGraphKernelNodeSetAttribute(node_, cudaLaunchAttributeCooperative, &together);
    return code == cudaSuccess ? cudaGraphInstantiate(&exec_, graph_, 0) : code;
}

cudaError_t StepGraph::launch(cudaStream_t stream, const DecodePlan& plan, const DecodeStep& args) {
    DecodeStep step = args;
    StepMemory memory = memory_of(plan, args);
    void* parameters[] = {&step, &memory};
    cudaKernelNodeParams params{};
    params.func = reinterpret_cast<void*>(kernel_of(plan, args.head_dim));
    params.gridDim = dim3(plan.blocks);
    params.blockDim = dim3(kStepThreads);
    params.sharedMemBytes = static_cast<uint32_t>(plan.shared_bytes);
    params.kernelParams = parameters;
    cudaError_t code = exec_ == nullptr ? make(params) : cudaSuccess;
    // A node may be that of an earlier step whose graph could not be made.
    if (code == cudaSuccess) code = cudaGraphExecKernelNodeSetParams(exec_, node_, &params);
    return code == cudaSuccess ? cudaGraphLaunch(exec_, stream) : code;
}

}  // namespace driftwood::compute::cuda
