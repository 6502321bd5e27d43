#include "compute/cuda/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "compute/constants.h"
#include "compute/cuda/cuda.h"
#include "compute/cuda/layout.h"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kChunkStep = 16;  // a graph serves contexts up to the next multiple of so many chunks
constexpr uint32_t kMostGraphs = 64;
constexpr size_t kPartBytes = size_t{256} << 20;  // of sums of chunks side by side, at most
constexpr uint32_t kPositionStep = 1024;          // positions whose angles are computed at once

}  // namespace

Result<std::unique_ptr<Engine>> make_engine(const DecoderSpec& spec, const EngineOptions& options) {
    return CudaEngine::create(spec, options);
}

Result<std::unique_ptr<Engine>> CudaEngine::create(const DecoderSpec& spec, const EngineOptions& options) {
    DW_ASSIGN(Stream stream, Stream::create());
    DW_ASSIGN(Stream copies, Stream::create());
    std::unique_ptr<CudaEngine> engine(new CudaEngine(spec, options, std::move(stream), std::move(copies)));
    DW_ASSIGN(const size_t free_at_start, free_card_memory());
    DW_ASSIGN(Weights weights, Weights::upload(spec, engine->stream_));
    engine->weights_.emplace(std::move(weights));
    DW_ASSIGN(const size_t free_after_weights, free_card_memory());
    DW_TRY(engine->make_buffers());
    DW_ASSIGN(engine->single_,
              SingleDecode::create(engine->spec_, *engine->weights_, engine->buffers_.cosine.as<float>(),
                                   engine->buffers_.sine.as<float>(), engine->stream_));
    DW_TRY(engine->make_pool(options, free_at_start, free_after_weights));
    return std::unique_ptr<Engine>(std::move(engine));
}

CudaEngine::CudaEngine(const DecoderSpec& spec, const EngineOptions& options, Stream stream, Stream copies)
    : spec_(spec),
      stream_(std::move(stream)),
      copies_(std::move(copies)),
      rope_(spec.rope_theta, spec.head_dim, spec.rope_factors),
      query_scale_(score_scale(spec.head_dim)),
      pinned_(spec.vocab),
      threads_(options.threads != 0 ? options.threads : available_cores(), [] {}) {}

CudaEngine::~CudaEngine() {
    // Nothing could be done about a failure here.
    static_cast<void>(cudaStreamSynchronize(stream_.get()));
    static_cast<void>(cudaStreamSynchronize(copies_.get()));
    drop_graphs();
    for (const auto* events : {&part_made_, &part_there_}) {
        for (cudaEvent_t event : *events) cudaEventDestroy(event);
    }
}

void CudaEngine::drop_graphs() {
    for (const Graph& graph : graphs_) cudaGraphExecDestroy(graph.exec);
    graphs_.clear();
}

Result<void> CudaEngine::make_buffers() {
    Buffers& b = buffers_;
    for (uint32_t i = 0; i < kLogitRows / kFirstPart; ++i) {
        for (auto* events : {&part_made_, &part_there_}) {
            cudaEvent_t event = nullptr;
            DW_TRY(check("make an event", cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
            events->push_back(event);
        }
    }
    const size_t rows = kPassRows;
    const size_t q_width = size_t{spec_.heads} * spec_.head_dim;
    const size_t kv_width = size_t{spec_.kv_heads} * spec_.head_dim;
    DW_TRY(b.residual.hold(rows * spec_.d_model * sizeof(float)));
    for (DeviceBytes* buffer : {&b.q, &b.attended}) DW_TRY(buffer->hold(rows * q_width * sizeof(float)));
    for (DeviceBytes* buffer : {&b.k, &b.v}) DW_TRY(buffer->hold(rows * kv_width * sizeof(float)));
    for (DeviceBytes* buffer : {&b.gate, &b.up}) DW_TRY(buffer->hold(rows * spec_.d_ff * sizeof(float)));
    DW_TRY(b.q16.hold(rows * q_width * sizeof(int16_t)));
    DW_TRY(b.cq.hold(rows * spec_.heads * sizeof(float)));
    const size_t groups = padded_groups(std::max(spec_.d_model, static_cast<uint32_t>(q_width)));
    const size_t pair_groups = padded_groups(spec_.d_ff);
    const size_t columns = 2 * rows;  // a token's two digits at most (A16)
    // Tiles hold 16 tokens and whole super-blocks: what lies beyond the rows and columns is multiplied too, and means
    // nothing, but for being finite.
    const auto tiles = [&](DeviceBytes& buffer, size_t size) -> Result<void> {
        DW_TRY(buffer.hold(size));
        return check("clear activations", cudaMemsetAsync(buffer.as<void>(), 0, size, stream_.get()));
    };
    DW_TRY(tiles(b.a8, columns * groups * kTileCols));
    DW_TRY(tiles(b.a8_scale, columns * groups * sizeof(float)));
    DW_TRY(tiles(b.pair8, columns * pair_groups * kTileCols));
    DW_TRY(tiles(b.pair8_scale, columns * pair_groups * sizeof(float)));
    DW_TRY(b.large.hold(sizeof(uint32_t)));
    DW_TRY(b.fault.hold(rows * sizeof(uint32_t)));
    DW_TRY(b.host_fault.hold(rows * sizeof(uint32_t)));
    const size_t angles = size_t{spec_.context} * (spec_.head_dim / 2) * sizeof(float);
    for (DeviceBytes* buffer : {&b.cosine, &b.sine}) DW_TRY(buffer->hold(angles));
    return {};
}

Result<void> CudaEngine::hold_positions(uint32_t end) {
    const size_t half = spec_.head_dim / 2;
    while (positions_ < end) {
        const uint32_t count = std::min(kPositionStep, spec_.context - positions_);
        std::vector<float> cosine(count * half), sine(count * half);
        for (uint32_t i = 0; i < count; ++i) {
            rope_.angles(positions_ + i, std::span(cosine).subspan(i * half, half),
                         std::span(sine).subspan(i * half, half));
        }
        const size_t at = positions_ * half;
        for (const auto& [to, from] : {std::pair(&buffers_.cosine, &cosine), std::pair(&buffers_.sine, &sine)}) {
            DW_TRY(
                check("copy angles", cudaMemcpyAsync(to->as<float>() + at, from->data(), from->size() * sizeof(float),
                                                     cudaMemcpyHostToDevice, stream_.get())));
        }
        DW_TRY(stream_.wait());
        positions_ += count;
    }
    return {};
}

// ---- a pass

// Copies the rows to the card: five words a row, then the tables of blocks, then the tasks of attention.
Result<void> CudaEngine::send(std::span<const BatchItem> batch, std::span<const StepRow> rows, Pass& pass) {
    const auto count = static_cast<uint32_t>(rows.size());
    const uint32_t group = spec_.heads / spec_.kv_heads;
    std::vector<uint8_t*> blocks;
    std::vector<uint32_t> tables(count);
    for (uint32_t begin = 0, end = 0; begin < count; begin = end) {
        while (end < count && rows[end].item == rows[begin].item) ++end;
        const BatchItem& item = batch[rows[begin].item];
        const auto table = static_cast<uint32_t>(blocks.size());
        std::fill(tables.begin() + begin, tables.begin() + end, table);
        const uint32_t length = rows[end - 1].position + 1;
        for (uint32_t b = 0; b * kBlockTokens < length; ++b) {
            const bool written = (b + 1) * kBlockTokens > rows[begin].position;
            const auto use = written ? PagedKvPool::Use::kWrite : PagedKvPool::Use::kRead;
            blocks.push_back(pool_->on_card(item.blocks[b], use));
        }
        if (end - begin == 1) {
            pass.decode_rows.push_back(begin);
            const auto chunks = static_cast<uint32_t>(blocks.size()) - table;
            pass.max_chunks = std::max(pass.max_chunks, (chunks + kChunkStep - 1) / kChunkStep * kChunkStep);
        } else {
            const uint32_t queries = (end - begin) * group;
            const uint32_t each = prefill_queries(spec_.head_dim);
            for (uint32_t q = 0; q < queries; q += each) pass.tasks.push_back({begin, q, std::min(q + each, queries)});
        }
    }
    if (many_decodes(pass.decode_rows.size(), spec_.kv_heads)) pass.max_chunks = 0;
    // Those that see most begin first.
    std::reverse(pass.tasks.begin(), pass.tasks.end());
    for (uint32_t i = 0; i < count; ++i) {
        if (rows[i].logits != nullptr) pass.logit_rows.push_back(i);
    }

    const size_t words = (5 * size_t{count} + 1) / 2 * 2;
    const size_t task_at = words * sizeof(uint32_t) + blocks.size() * sizeof(uint8_t*);
    const size_t size = task_at + pass.tasks.size() * sizeof(AttentionTask);
    if (size > buffers_.meta.size()) {
        drop_graphs();
        DW_TRY(buffers_.host_meta.hold(2 * size));
        DW_TRY(buffers_.meta.hold(2 * size));
    }
    auto* host = buffers_.host_meta.as<uint32_t>();
    for (uint32_t i = 0; i < count; ++i) {
        host[i] = rows[i].token;
        host[count + i] = rows[i].position;
        host[2 * count + i] = tables[i];
    }
    std::copy(pass.logit_rows.begin(), pass.logit_rows.end(), host + 3 * size_t{count});
    std::copy(pass.decode_rows.begin(), pass.decode_rows.end(), host + 4 * size_t{count});
    std::copy(blocks.begin(), blocks.end(), reinterpret_cast<uint8_t**>(host + words));
    std::copy(pass.tasks.begin(), pass.tasks.end(),
              reinterpret_cast<AttentionTask*>(buffers_.host_meta.as<uint8_t>() + task_at));
    auto* card = buffers_.meta.as<uint32_t>();
    pass.rows = count;
    pass.token = card;
    pass.position = card + count;
    pass.table = card + 2 * size_t{count};
    pass.logit_source = card + 3 * size_t{count};
    pass.decode_row = card + 4 * size_t{count};
    pass.blocks = reinterpret_cast<uint8_t* const*>(card + words);
    pass.task = reinterpret_cast<const AttentionTask*>(buffers_.meta.as<uint8_t>() + task_at);
    return check("copy a batch", cudaMemcpyAsync(card, host, size, cudaMemcpyHostToDevice, stream_.get()));
}

// Room for what depends on the batch. Graphs hold addresses, so growing drops them.
Result<void> CudaEngine::hold(std::span<const StepRow> rows, const Pass& pass) {
    Buffers& b = buffers_;
    const size_t logits = std::min<size_t>(pass.logit_rows.size(), kLogitRows) * spec_.vocab * sizeof(float);
    const bool staged = std::any_of(pass.logit_rows.begin(), pass.logit_rows.end(),
                                    [&](uint32_t row) { return is_staged(rows[row], pass.logit_rows.size()); });
    const size_t decodes = many_decodes(pass.decode_rows.size(), spec_.kv_heads) ? 0 : pass.decode_rows.size();
    const size_t parts = decodes * spec_.heads * pass.max_chunks;
    const size_t one_row = size_t{spec_.heads} * pass.max_chunks * spec_.head_dim * sizeof(int32_t);
    const size_t sums = std::min(decodes * one_row, std::max(one_row, kPartBytes));
    const size_t host_logits = staged ? logits : 0;
    if (logits > b.logits.size() || host_logits > b.host_logits.size() || parts * kAttentionPartBytes > b.part.size() ||
        sums > b.part_sum.size()) {
        drop_graphs();
    }
    DW_TRY(b.logits.hold(logits));
    DW_TRY(b.host_logits.hold(host_logits));
    DW_TRY(b.part.hold(parts * kAttentionPartBytes));
    return b.part_sum.hold(sums);
}

Result<void> CudaEngine::run_pass(std::span<BatchItem> batch, std::span<const StepRow> rows) {
    uint32_t end = 0;
    for (const StepRow& row : rows) end = std::max(end, row.position + 1);
    DW_TRY(hold_positions(end));
    if (single_ != nullptr && single_->takes(rows)) {
        const bool reached = rows[0].logits != nullptr && pinned_.holds(rows[0].logits);
        return single_->step(batch[rows[0].item], rows[0],
                             reached ? SingleDecode::LogitsOn::kCard : SingleDecode::LogitsOn::kHostAlone, *pool_);
    }
    Pass pass;
    DW_TRY(send(batch, rows, pass));
    DW_TRY(hold(rows, pass));
    pass.late_layers = late_layers(pass);
    DW_TRY(pass.only_decodes() ? launch_graph(pass) : enqueue(pass));
    DW_TRY(bring_logits(rows, pass));
    DW_TRY(stream_.wait());
    for (uint32_t i = 0; i < pass.rows; ++i) {
        const uint32_t code = buffers_.host_fault.as<uint32_t>()[i];
        BatchItem& item = batch[rows[i].item];
        if (code == kNoFault || !fault_counts(spec_, rows[i], code)) continue;
        if (!item.error) item.error = fault_error(code, rows[i].position);
    }
    return {};
}

Result<void> CudaEngine::launch_graph(const Pass& pass) {
    const auto logit_rows = static_cast<uint32_t>(pass.logit_rows.size());
    for (const Graph& graph : graphs_) {
        if (graph.rows != pass.rows || graph.logit_rows != logit_rows || graph.max_chunks != pass.max_chunks) continue;
        return check("launch a step", cudaGraphLaunch(graph.exec, stream_.get()));
    }
    // Making a graph takes longer than launching its kernels one by one: only for a step of the same shape as the last.
    const std::array<uint32_t, 3> shape = {pass.rows, logit_rows, pass.max_chunks};
    if (std::exchange(last_shape_, shape) != shape) return enqueue(pass);
    if (graphs_.size() >= kMostGraphs) drop_graphs();
    DW_TRY(check("begin a graph", cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal)));
    const Result<void> enqueued = enqueue(pass);
    cudaGraph_t captured = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &captured);
    if (!enqueued.ok() && captured != nullptr) cudaGraphDestroy(captured);
    DW_TRY(enqueued);
    DW_TRY(check("end a graph", ended));
    Graph graph{pass.rows, logit_rows, pass.max_chunks, nullptr};
    const cudaError_t made = cudaGraphInstantiate(&graph.exec, captured, 0);
    cudaGraphDestroy(captured);
    DW_TRY(check("make a graph", made));
    graphs_.push_back(graph);
    return check("launch a step", cudaGraphLaunch(graph.exec, stream_.get()));
}

Result<void> CudaEngine::enqueue(const Pass& pass) {
    Buffers& b = buffers_;
    DW_TRY(
        check("clear faults", cudaMemsetAsync(b.fault.as<void>(), 0xFF, pass.rows * sizeof(uint32_t), stream_.get())));
    DW_TRY(check("clear a flag", cudaMemsetAsync(b.large.as<void>(), 0, sizeof(uint32_t), stream_.get())));
    DW_TRY(check("embed", embed(stream_.get(), weights_->embedding, pass.token, pass.rows, b.residual.as<float>())));
    DW_TRY(enqueue_layers(pass, 0, spec_.layers - pass.late_layers));
    if (pass.late_layers > 0) {
        DW_TRY(enqueue_layers(pass.part(0, pass.half()), spec_.layers - pass.late_layers, spec_.layers));
    }
    return enqueue_logits(pass, 0);
}

Result<void> CudaEngine::enqueue_layers(const Pass& pass, uint32_t first, uint32_t end) {
    for (uint32_t layer = first; layer < end; ++layer) {
        DW_TRY(attention_block(layer, pass));
        DW_TRY(feed_forward_block(layer, pass));
    }
    return {};
}

float* CudaEngine::residual(const Pass& pass) const {
    return buffers_.residual.as<float>() + size_t{pass.first} * spec_.d_model;
}

// ---- the decoder

Quantise CudaEngine::quantised(const TiledMatrix& matrix, uint32_t layer, Place place, const Pass& pass,
                               const Activations& out) const {
    Quantise made{.kind = matrix.kind,
                  .rows = pass.rows,
                  .cols = matrix.cols,
                  .source = nullptr,
                  .out = out,
                  .fault = fault(pass),
                  .code = fault_code(layer, place)};
    made.out.order = linear_order(matrix, pass.rows);
    return made;
}

Activations CudaEngine::activations(const DeviceBytes& q, const DeviceBytes& scale) const {
    return {q.as<uint8_t>(), scale.as<float>(), buffers_.large.as<uint32_t>(), ActivationOrder::kLanes};
}

Linear::Norm CudaEngine::norm(const float* weight, uint32_t layer, Place place) const {
    return {buffers_.residual.as<float>(), weight, spec_.norm_eps, buffers_.fault.as<uint32_t>(),
            fault_code(layer, place)};
}

Linear CudaEngine::plain(const Pass& pass, bool add) const {
    Linear args;
    args.tokens = pass.rows;
    args.x = activations();
    args.add = add;
    return args;
}

Result<void> CudaEngine::multiply(std::span<const Linear::Product> products, Linear args) {
    args.products = static_cast<uint32_t>(products.size());
    std::copy(products.begin(), products.end(), args.product);
    args.x.order = linear_order(products[0].matrix, args.tokens);
    return check("multiply", linear(stream_.get(), args));
}

Result<void> CudaEngine::multiply_normed(std::span<const Linear::Product> products, Linear args, const float* weight,
                                         uint32_t layer, Place place, const Pass& pass) {
    const bool fused = args.tokens <= kFusedTokens && spec_.d_model <= kFusedCols;
    std::optional<Quantise> made;
    for (size_t begin = 0, end = 0; begin < products.size(); begin = end) {
        const TiledMatrix& first = products[begin].matrix;
        while (end < products.size() && products[end].matrix.type == first.type) ++end;
        if (fused) {
            args.norm = norm(weight, layer, place);
        } else {
            const Quantise input = quantised(first, layer, place, pass, activations());
            if (!made || made->kind != input.kind || made->out.order != input.out.order) {
                DW_TRY(check("norm", norm_quantise(stream_.get(), input, residual(pass), weight, spec_.norm_eps)));
            }
            made = input;
        }
        DW_TRY(multiply(products.subspan(begin, end - begin), args));
    }
    return {};
}

Result<void> CudaEngine::attention_block(uint32_t layer, const Pass& pass) {
    const LayerWeights& w = weights_->layer[layer];
    Buffers& b = buffers_;
    const Linear::Product qkv[] = {{w.wq, b.q.as<float>()}, {w.wk, b.k.as<float>()}, {w.wv, b.v.as<float>()}};
    DW_TRY(multiply_normed(qkv, plain(pass, false), w.attn_norm, layer, Place::kAttnNorm, pass));
    DW_TRY(attend(layer, pass));
    Linear out = plain(pass, true);
    if (takes_floats(w.wo, pass)) out.norm = floats(b.attended, layer, Place::kAttention);
    const Linear::Product wo[] = {{w.wo, residual(pass)}};
    return multiply(wo, out);
}

RopeStore CudaEngine::rope(uint32_t layer, const Pass& pass) const {
    const Buffers& b = buffers_;
    return {.sequences = {.rows = pass.rows,
                          .position = pass.position,
                          .table = pass.table,
                          .blocks = pass.blocks,
                          .heads = spec_.heads,
                          .kv_heads = spec_.kv_heads,
                          .head_dim = spec_.head_dim,
                          .layer = layer},
            .q = b.q.as<float>(),
            .k = b.k.as<float>(),
            .v = b.v.as<float>(),
            .cosine = b.cosine.as<float>(),
            .sine = b.sine.as<float>(),
            .pairs = spec_.rope_pairs,
            .query_scale = query_scale_,
            .q16 = b.q16.as<int16_t>(),
            .cq = b.cq.as<float>(),
            .fault = fault(pass),
            .q_code = fault_code(layer, Place::kQuery),
            .k_code = fault_code(layer, Place::kKey),
            .v_code = fault_code(layer, Place::kValue)};
}

bool CudaEngine::takes_floats(const TiledMatrix& matrix, const Pass& pass) const {
    return matrix.kind != ActivationKind::kA32P && pass.rows <= kFusedTokens && matrix.cols <= kFusedFloats;
}

Linear::Norm CudaEngine::floats(const DeviceBytes& x, uint32_t layer, Place place) const {
    return {x.as<float>(), nullptr, 0.0F, buffers_.fault.as<uint32_t>(), fault_code(layer, place)};
}

// RoPE, the cache, attention, and its output as activations, unless the next layer takes floats.
Result<void> CudaEngine::attend(uint32_t layer, const Pass& pass) {
    Buffers& b = buffers_;
    const TiledMatrix& wo = weights_->layer[layer].wo;
    Attention args;
    args.rope = rope(layer, pass);
    args.sequences = args.rope.sequences;
    args.q16 = b.q16.as<int16_t>();
    args.cq = b.cq.as<float>();
    args.out = b.attended.as<float>();
    args.fault = fault(pass);
    args.code = fault_code(layer, Place::kAttention);
    const bool fast = fast_attention(spec_.head_dim, spec_.heads / spec_.kv_heads);
    args.with_rope = fast && pass.tasks.empty();
    if (!args.with_rope) DW_TRY(check("rope", rope_store(stream_.get(), args.rope)));
    if (!fast) {
        DW_TRY(check("attention", attention(stream_.get(), args)));
    } else {
        args.task = pass.task;
        args.tasks = static_cast<uint32_t>(pass.tasks.size());
        if (args.tasks > 0) DW_TRY(check("attention of prompts", attention_prefill(stream_.get(), args)));
        args.decode_row = pass.decode_row;
        args.max_chunks = pass.max_chunks;
        args.part = b.part.as<void>();
        args.part_sum = b.part_sum.as<int32_t>();
        const auto decodes = static_cast<uint32_t>(pass.decode_rows.size());
        const bool merged = args.tasks == 0 && attention_makes(wo.kind, decodes, spec_.kv_heads, spec_.head_dim,
                                                               spec_.heads / spec_.kv_heads);
        if (merged) args.tiles = quantised(wo, layer, Place::kAttention, pass, activations()).out;
        args.tiles_kind = wo.kind;
        const size_t one_row = size_t{spec_.heads} * pass.max_chunks * spec_.head_dim * sizeof(int32_t);
        auto at_once = one_row == 0 ? 1 : static_cast<uint32_t>(std::max<size_t>(b.part_sum.size() / one_row, 1));
        if (many_decodes(decodes, spec_.kv_heads)) at_once = decodes;
        for (; args.first_decode < decodes; args.first_decode += at_once) {
            args.decode_rows = std::min(at_once, decodes - args.first_decode);
            DW_TRY(check("attention of decodes", attention_decode(stream_.get(), args)));
        }
        if (merged) return {};
    }
    if (takes_floats(wo, pass)) return {};
    return check("quantise", quantise(stream_.get(), quantised(wo, layer, Place::kAttention, pass, activations()),
                                      b.attended.as<float>()));
}

Result<void> CudaEngine::feed_forward_block(uint32_t layer, const Pass& pass) {
    const LayerWeights& w = weights_->layer[layer];
    Buffers& b = buffers_;
    Linear pair = plain(pass, false);
    const Quantise silu = quantised(w.w_down, layer, Place::kFeedForward, pass, pair_activations());
    // The pair makes the input of w_down itself: as groups, if both are A32P, else as floats.
    const bool groups = w.w_gate.kind == ActivationKind::kA32P;
    pair.is_pair =
        pass.rows <= kPairTokens && w.w_gate.type == w.w_up.type && (!groups || w.w_down.kind == ActivationKind::kA32P);
    if (pair.is_pair) {
        pair.pair = silu.out;
        pair.fault = silu.fault;
        pair.code = silu.code;
    }
    const Linear::Product gate_up[] = {{w.w_gate, b.gate.as<float>()}, {w.w_up, b.up.as<float>()}};
    DW_TRY(multiply_normed(gate_up, pair, w.ffn_norm, layer, Place::kFfnNorm, pass));
    if (!pair.is_pair) {
        DW_TRY(check("silu", silu_quantise(stream_.get(), silu, b.gate.as<float>(), b.up.as<float>())));
    } else if (!groups && !takes_floats(w.w_down, pass)) {
        DW_TRY(check("quantise", quantise(stream_.get(), silu, b.gate.as<float>())));
    }
    Linear down = plain(pass, true);
    down.x = pair_activations();
    if (pair.is_pair && takes_floats(w.w_down, pass)) down.norm = floats(b.gate, layer, Place::kFeedForward);
    const Linear::Product w_down[] = {{w.w_down, residual(pass)}};
    return multiply(w_down, down);
}

}  // namespace driftwood::compute::cuda
