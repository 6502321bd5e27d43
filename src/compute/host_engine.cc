#include "compute/host_engine.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "compute/constants.h"
#include "compute/reference/reference.h"
#include "compute/row_buffer.h"

namespace driftwood::compute {

namespace {

constexpr uint32_t kPassRows = 512;   // rows that share one reading of the weights
constexpr uint32_t kLogitRows = 32;   // rows whose logits are computed together
constexpr size_t kTaskBytes = 65536;  // weights that one task of a linear layer reads, about
constexpr uint32_t kRowTile = 32;     // kernels work on this many rows of a matrix at once
// Rows of a task over many tokens: every call begins with what its tokens need, be it activations arranged for tiles or
// where their sums begin.
constexpr uint32_t kManyTokens = 8;
constexpr uint32_t kManyTokensRows = 256;
constexpr uint32_t kTasksPerThread = 4;  // of each matrix, if it has the rows

}  // namespace

// Rows of one kind of activations: the input of the linear layers in progress.
struct HostEngine::Quantised {
    explicit Quantised(ActivationKind of) : kind(of) {}

    ActivationKind kind;
    RowBuffer<int8_t> high, low;           // [rows, cols]; low for A16 only
    RowBuffer<float> scale;                // [rows, groups]
    RowBuffer<int32_t> high_sum, low_sum;  // [rows, cols / 16]

    size_t groups(size_t cols) const {
        const size_t group = kind == ActivationKind::kA32P ? kGroup : kSuperBlock;
        return (cols + group - 1) / group;
    }
    void hold(size_t rows, size_t cols) {
        const auto grow = [](auto& buffer, size_t size) {
            if (buffer.size() < size) buffer.resize(size);
        };
        grow(high, rows * cols);
        grow(scale, rows * groups(cols));
        grow(high_sum, rows * cols / kSumGroup);
        if (kind != ActivationKind::kA16) return;
        grow(low, rows * cols);
        grow(low_sum, rows * cols / kSumGroup);
    }
    Activations view() const { return {high.data(), low.data(), scale.data(), high_sum.data(), low_sum.data()}; }
    ActivationRow row(size_t row, size_t cols) {
        const bool digits = kind == ActivationKind::kA16;
        const size_t at = row * cols;
        return {high.data() + at, digits ? low.data() + at : nullptr, scale.data() + row * groups(cols),
                high_sum.data() + at / kSumGroup, digits ? low_sum.data() + at / kSumGroup : nullptr};
    }
};

// One row per token of the pass; widths as in the spec.
struct HostEngine::Buffers {
    RowBuffer<float> residual;      // [rows, d_model]
    RowBuffer<float> normed;        // [rows, d_model]
    RowBuffer<float> delta;         // [rows, d_model] what a block adds to the residual
    RowBuffer<float> q, k, v;       // [rows, heads * head_dim], [rows, kv_heads * head_dim] twice
    RowBuffer<float> attended;      // [rows, heads * head_dim]
    RowBuffer<float> gate, up;      // [rows, d_ff]
    RowBuffer<float> cosine, sine;  // [rows, head_dim / 2]
    RowBuffer<float> logits;        // [kLogitRows, vocab], when more than one row has logits
    RowBuffer<int16_t> q16;         // [rows, heads * head_dim]
    RowBuffer<float> cq;            // [rows, heads]
    Quantised quantised[kActivationKinds] = {Quantised(ActivationKind::kA32P), Quantised(ActivationKind::kA256),
                                             Quantised(ActivationKind::kA16)};
    std::vector<uint32_t> fault;  // [rows]: 0, or 1 + the first place that was not finite
    uint32_t rows = 0;

    void hold(const DecoderSpec& spec, uint32_t want_rows);
};

struct HostEngine::Product {
    const MatrixView& matrix;
    float* y;  // [rows of the pass, matrix.rows]
    uint32_t tokens;
};

struct HostEngine::AttentionTask {
    uint32_t first_row;
    uint32_t first_query;  // queries of an item and KV head are numbered row by row, head by head in its group
    uint32_t query_count;
};

void HostEngine::Buffers::hold(const DecoderSpec& spec, uint32_t want_rows) {
    fault.assign(want_rows, 0);
    if (want_rows <= rows) return;
    rows = want_rows;
    const size_t n = rows;
    const size_t q_width = size_t{spec.heads} * spec.head_dim;
    const size_t kv_width = size_t{spec.kv_heads} * spec.head_dim;
    for (auto* buffer : {&residual, &normed, &delta}) buffer->resize(n * spec.d_model);
    for (auto* buffer : {&q, &attended}) buffer->resize(n * q_width);
    for (auto* buffer : {&k, &v}) buffer->resize(n * kv_width);
    for (auto* buffer : {&gate, &up}) buffer->resize(n * spec.d_ff);
    for (auto* buffer : {&cosine, &sine}) buffer->resize(n * (spec.head_dim / 2));
    q16.resize(n * q_width);
    cq.resize(n * spec.heads);
}

HostEngine::HostEngine(const Kernels& kernels, const DecoderSpec& spec, const EngineOptions& options,
                       std::unique_ptr<HostKvPool> pool)
    : kernels_(reference::completed(kernels)),
      spec_(spec),
      subnormals_(options.subnormals),
      pool_(std::move(pool)),
      rope_(spec.rope_theta, spec.head_dim, spec.rope_factors),
      query_scale_(score_scale(spec.head_dim)),
      threads_(options.threads != 0 ? options.threads : available_cores(),
               [mode = options.subnormals] { FpEnvironment::enter(mode); }),
      buffers_(std::make_unique<Buffers>()) {}

HostEngine::~HostEngine() = default;

// ---- a step: rows, passes, faults

std::vector<MemoryPart> HostEngine::memory() const {
    const uint64_t block = pool_->layout().block_bytes();
    return {{"weights", bytes_of_weights(spec_), "read where they lie"},
            {"KV blocks", block * pool_->capacity(),
             std::to_string(pool_->capacity()) + " of " + std::to_string(block) +
                 " bytes, 64 tokens each: addresses, of which memory is taken as it is used"}};
}

void HostEngine::step(std::span<BatchItem> batch) {
    const FpEnvironment environment(subnormals_);
    check_batch(spec_, batch);
    for (BatchItem& item : batch) item.error.reset();
    const std::vector<StepRow> rows = step_rows(spec_, batch);
    for (size_t begin = 0; begin < rows.size(); begin += kPassRows) {
        rows_ = std::span(rows).subspan(begin, std::min<size_t>(kPassRows, rows.size() - begin));
        run_pass(batch);
    }
    clear_failed(batch, *pool_);
}

void HostEngine::note(uint32_t row, uint32_t layer, Place place, bool finite) {
    if (finite) return;
    // Tasks of one kernel may meet on a row; they bring the same code, and later kernels do not replace it.
    uint32_t none = 0;
    std::atomic_ref<uint32_t>(buffers_->fault[origin_[row]])
        .compare_exchange_strong(none, fault_code(layer, place), std::memory_order_relaxed);
}

void HostEngine::report_faults(std::span<BatchItem> batch, std::span<const StepRow> rows) {
    for (uint32_t i = 0; i < rows.size(); ++i) {
        const uint32_t code = buffers_->fault[i];
        BatchItem& item = batch[rows[i].item];
        if (code != 0 && !item.error) item.error = fault_error(code, rows[i].position);
    }
}

// ---- the decoder

void HostEngine::run_pass(std::span<BatchItem> batch) {
    const std::span<const StepRow> rows = rows_;
    buffers_->hold(spec_, static_cast<uint32_t>(rows.size()));
    origin_.resize(rows.size());
    std::iota(origin_.begin(), origin_.end(), 0U);
    embed();
    for (uint32_t layer = 0; layer < spec_.layers; ++layer) run_layer(layer, batch);
    logits();
    report_faults(batch, rows);
}

void HostEngine::run_layer(uint32_t layer, std::span<const BatchItem> batch) {
    keys_and_values(layer, batch);
    if (layer + 1 == spec_.layers) keep_rows_with_logits();
    if (rows_.empty()) return;
    attention_block(layer, batch);
    feed_forward_block(layer);
}

void HostEngine::keys_and_values(uint32_t layer, std::span<const BatchItem> batch) {
    const DecoderLayer& w = spec_.layer[layer];
    Buffers& b = *buffers_;
    const auto tokens = static_cast<uint32_t>(rows_.size());
    norm_and_quantise(w.attn_norm, kinds({&w.wq, &w.wk, &w.wv}), layer, Place::kAttnNorm);
    multiply({{w.wq, b.q.data(), tokens}, {w.wk, b.k.data(), tokens}, {w.wv, b.v.data(), tokens}});
    rope_and_store(layer, batch);
}

// What the last layer makes of a row serves that row's logits alone: rows without are done once their keys and values
// are stored.
void HostEngine::keep_rows_with_logits() {
    Buffers& b = *buffers_;
    const auto move_row = [](auto& buffer, size_t width, size_t from, size_t to) {
        std::copy_n(buffer.begin() + static_cast<ptrdiff_t>(from * width), width,
                    buffer.begin() + static_cast<ptrdiff_t>(to * width));
    };
    kept_.clear();
    for (uint32_t i = 0; i < rows_.size(); ++i) {
        if (rows_[i].logits == nullptr) continue;
        const size_t to = kept_.size();
        kept_.push_back(rows_[i]);
        if (to == i) continue;
        move_row(b.residual, spec_.d_model, i, to);
        move_row(b.q16, size_t{spec_.heads} * spec_.head_dim, i, to);
        move_row(b.cq, spec_.heads, i, to);
        origin_[to] = i;
    }
    rows_ = kept_;
}

void HostEngine::attention_block(uint32_t layer, std::span<const BatchItem> batch) {
    const DecoderLayer& w = spec_.layer[layer];
    Buffers& b = *buffers_;
    attend(layer, batch);
    quantise(b.attended.data(), spec_.heads * spec_.head_dim, kinds({&w.wo}), layer, Place::kAttention);
    multiply({{w.wo, b.delta.data(), static_cast<uint32_t>(rows_.size())}});
    add_to_residual();
}

void HostEngine::feed_forward_block(uint32_t layer) {
    const DecoderLayer& w = spec_.layer[layer];
    Buffers& b = *buffers_;
    const auto tokens = static_cast<uint32_t>(rows_.size());
    norm_and_quantise(w.ffn_norm, kinds({&w.w_gate, &w.w_up}), layer, Place::kFfnNorm);
    multiply({{w.w_gate, b.gate.data(), tokens}, {w.w_up, b.up.data(), tokens}});
    const KindSet down_kinds = kinds({&w.w_down});
    hold_quantised(tokens, spec_.d_ff, down_kinds);
    threads_.run(tokens, [&](uint32_t row) {
        float* gate = b.gate.data() + size_t{row} * spec_.d_ff;
        kernels_.silu_multiply(gate, b.up.data() + size_t{row} * spec_.d_ff, spec_.d_ff, gate);
        note(row, layer, Place::kFeedForward, quantise_row(gate, spec_.d_ff, down_kinds, row));
    });
    multiply({{w.w_down, b.delta.data(), tokens}});
    add_to_residual();
}

void HostEngine::embed() {
    const uint32_t half = spec_.head_dim / 2;
    const size_t bytes = row_bytes(spec_.embedding.type, spec_.d_model);
    threads_.run(static_cast<uint32_t>(rows_.size()), [&](uint32_t i) {
        const EmbedKernel embed_row = kernels_.embed[static_cast<uint32_t>(spec_.embedding.type)];
        embed_row(spec_.embedding.bytes.data() + rows_[i].token * bytes, spec_.d_model,
                  buffers_->residual.data() + size_t{i} * spec_.d_model);
        rope_.angles(rows_[i].position, std::span(buffers_->cosine).subspan(size_t{i} * half, half),
                     std::span(buffers_->sine).subspan(size_t{i} * half, half));
    });
}

// Logits of the rows that are left, kLogitRows at a time.
void HostEngine::logits() {
    Buffers& b = *buffers_;
    const size_t d = spec_.d_model;
    const KindSet output_kinds = kinds({&spec_.output});
    for (uint32_t begin = 0; begin < rows_.size(); begin += kLogitRows) {
        const uint32_t count = std::min(kLogitRows, static_cast<uint32_t>(rows_.size()) - begin);
        hold_quantised(count, spec_.d_model, output_kinds);
        threads_.run(count, [&](uint32_t i) {
            const uint32_t row = begin + i;
            float* normed = b.normed.data() + i * d;
            bool finite = kernels_.rms_norm(b.residual.data() + row * d, spec_.output_norm.data(), spec_.d_model,
                                            spec_.norm_eps, normed);
            finite &= quantise_row(normed, spec_.d_model, output_kinds, i);
            note(row, spec_.layers, Place::kOutputNorm, finite);
        });
        if (count > 1) b.logits.resize(size_t{count} * spec_.vocab);
        float* out = count > 1 ? b.logits.data() : rows_[begin].logits;
        multiply({{spec_.output, out, count}});
        threads_.run(count, [&](uint32_t i) {
            const StepRow& row = rows_[begin + i];
            float* from = out + size_t{i} * spec_.vocab;
            note(begin + i, spec_.layers, Place::kLogits, kernels_.all_finite(from, spec_.vocab));
            if (from != row.logits) std::memcpy(row.logits, from, spec_.vocab * sizeof(float));
        });
    }
}

// ---- steps of a layer

HostEngine::KindSet HostEngine::kinds(std::initializer_list<const MatrixView*> matrices) const {
    KindSet set = 0;
    for (const MatrixView* matrix : matrices) {
        set |= 1U << static_cast<uint32_t>(activation_kind(matrix->type, spec_.activation_bits));
    }
    return set;
}

void HostEngine::norm_and_quantise(std::span<const float> weight, KindSet kinds, uint32_t layer, Place place) {
    Buffers& b = *buffers_;
    const size_t d = spec_.d_model;
    const auto tokens = static_cast<uint32_t>(rows_.size());
    hold_quantised(tokens, spec_.d_model, kinds);
    threads_.run(tokens, [&](uint32_t row) {
        float* normed = b.normed.data() + row * d;
        bool finite =
            kernels_.rms_norm(b.residual.data() + row * d, weight.data(), spec_.d_model, spec_.norm_eps, normed);
        finite &= quantise_row(normed, spec_.d_model, kinds, row);
        note(row, layer, place, finite);
    });
}

void HostEngine::quantise(const float* x, uint32_t cols, KindSet kinds, uint32_t layer, Place place) {
    hold_quantised(static_cast<uint32_t>(rows_.size()), cols, kinds);
    threads_.run(static_cast<uint32_t>(rows_.size()), [&](uint32_t row) {
        note(row, layer, place, quantise_row(x + size_t{row} * cols, cols, kinds, row));
    });
}

void HostEngine::hold_quantised(uint32_t rows, uint32_t cols, KindSet kinds) {
    for (uint32_t kind = 0; kind < kActivationKinds; ++kind) {
        if ((kinds >> kind & 1) != 0) buffers_->quantised[kind].hold(rows, cols);
    }
}

bool HostEngine::quantise_row(const float* x, uint32_t cols, KindSet kinds, uint32_t row) {
    bool finite = true;
    for (uint32_t kind = 0; kind < kActivationKinds; ++kind) {
        if ((kinds >> kind & 1) == 0) continue;
        finite &= kernels_.quantise[kind](x, cols, buffers_->quantised[kind].row(row, cols));
    }
    return finite;
}

// Multiplies the quantised rows by each matrix: all of them in one run, cut into tasks by rows of the matrices.
void HostEngine::multiply(std::initializer_list<Product> products) {
    const auto rows_per_task = [&](const Product& product) {
        const MatrixView& matrix = product.matrix;
        auto rows = static_cast<uint32_t>(kTaskBytes / row_bytes(matrix.type, matrix.cols));
        if (product.tokens >= kManyTokens) {
            rows = std::max(rows, std::min(kManyTokensRows, matrix.rows / (kTasksPerThread * threads_.threads())));
        }
        return std::max(rows / kRowTile, 1U) * kRowTile;
    };
    const auto tasks_of = [&](const Product& product) {
        return (product.matrix.rows + rows_per_task(product) - 1) / rows_per_task(product);
    };
    uint32_t tasks = 0;
    for (const Product& product : products) tasks += tasks_of(product);
    threads_.run(tasks, [&](uint32_t task) {
        const Product* product = products.begin();
        while (task >= tasks_of(*product)) task -= tasks_of(*product++);
        const MatrixView& matrix = product->matrix;
        const auto kind = static_cast<uint32_t>(activation_kind(matrix.type, spec_.activation_bits));
        const Linear args{.weights = matrix.bytes.data(),
                          .row_bytes = row_bytes(matrix.type, matrix.cols),
                          .cols = matrix.cols,
                          .tokens = product->tokens,
                          .x = buffers_->quantised[kind].view(),
                          .y = product->y,
                          .y_stride = matrix.rows};
        const uint32_t begin = task * rows_per_task(*product);
        const uint32_t end = std::min(matrix.rows, begin + rows_per_task(*product));
        kernels_.linear[static_cast<uint32_t>(matrix.type)][kind](args, begin, end);
    });
}

uint8_t* HostEngine::kv_head(const BatchItem& item, uint32_t position, uint32_t layer, uint32_t kv_head) {
    return pool_->data(item.blocks[position / kBlockTokens]) + pool_->layout().head_offset(layer, kv_head);
}

// Turns queries and keys by their positions, quantises queries, and writes keys and values into the rows' blocks.
void HostEngine::rope_and_store(uint32_t layer, std::span<const BatchItem> batch) {
    Buffers& b = *buffers_;
    const uint32_t head_dim = spec_.head_dim;
    const auto rope = spec_.rope_pairs == RopePairs::kAdjacent ? kernels_.rope_adjacent : kernels_.rope_halves;
    threads_.run(static_cast<uint32_t>(rows_.size()), [&](uint32_t row) {
        const float* cosine = b.cosine.data() + size_t{row} * (head_dim / 2);
        const float* sine = b.sine.data() + size_t{row} * (head_dim / 2);
        for (uint32_t h = 0; h < spec_.heads; ++h) {
            const size_t at = (size_t{row} * spec_.heads + h) * head_dim;
            rope(b.q.data() + at, head_dim, cosine, sine);
            float scale = 0.0F;
            note(row, layer, Place::kQuery,
                 kernels_.quantise_16(b.q.data() + at, head_dim, kMaxQ16, b.q16.data() + at, &scale));
            b.cq[size_t{row} * spec_.heads + h] = scale * query_scale_;
        }
        const BatchItem& item = batch[rows_[row].item];
        const uint32_t position = rows_[row].position;
        for (uint32_t h = 0; h < spec_.kv_heads; ++h) {
            const size_t at = (size_t{row} * spec_.kv_heads + h) * head_dim;
            uint8_t* head = kv_head(item, position, layer, h);
            int16_t ints[kMaxHeadDim];
            float scale = 0.0F;
            rope(b.k.data() + at, head_dim, cosine, sine);
            note(row, layer, Place::kKey, kernels_.quantise_16(b.k.data() + at, head_dim, kMaxQ16, ints, &scale));
            store_k_row(head, head_dim, position % kBlockTokens, ints, scale);
            note(row, layer, Place::kValue, kernels_.quantise_16(b.v.data() + at, head_dim, kMaxV16, ints, &scale));
            store_v_row(head, head_dim, position % kBlockTokens, ints, scale);
        }
    });
}

// Attention of all rows: a task takes one KV head and up to kMaxAttentionRows queries of one item that share its keys.
void HostEngine::attend(uint32_t layer, std::span<const BatchItem> batch) {
    const uint32_t group = spec_.heads / spec_.kv_heads;
    std::vector<AttentionTask> tasks;
    for (uint32_t first = 0; first < rows_.size();) {
        uint32_t end = first + 1;
        while (end < rows_.size() && rows_[end].item == rows_[first].item) ++end;
        const uint32_t queries = (end - first) * group;
        for (uint32_t q = 0; q < queries; q += kMaxAttentionRows) {
            tasks.push_back({first, q, std::min(kMaxAttentionRows, queries - q)});
        }
        first = end;
    }
    const auto count = static_cast<uint32_t>(tasks.size()) * spec_.kv_heads;
    threads_.run(count, [&](uint32_t index) {
        const uint8_t* next = nullptr;
        if (index + 1 < count) {
            const AttentionTask& following = tasks[(index + 1) / spec_.kv_heads];
            next = kv_head(batch[rows_[following.first_row].item], 0, layer, (index + 1) % spec_.kv_heads);
        }
        attend_rows(layer, index % spec_.kv_heads, tasks[index / spec_.kv_heads], next, batch);
    });
}

void HostEngine::attend_rows(uint32_t layer, uint32_t kv_head_index, const AttentionTask& task, const uint8_t* next,
                             std::span<const BatchItem> batch) {
    Buffers& b = *buffers_;
    const uint32_t group = spec_.heads / spec_.kv_heads;
    AttentionRow queries[kMaxAttentionRows];
    uint32_t most_visible = 0;
    for (uint32_t i = 0; i < task.query_count; ++i) {
        const uint32_t row = task.first_row + (task.first_query + i) / group;
        const size_t head = size_t{row} * spec_.heads + kv_head_index * group + (task.first_query + i) % group;
        const uint32_t visible = rows_[row].position + 1;
        queries[i] = {.q = b.q16.data() + head * spec_.head_dim,
                      .cq = b.cq[head],
                      .visible = visible,
                      .out = b.attended.data() + head * spec_.head_dim,
                      .finite = true};
        most_visible = std::max(most_visible, visible);
    }
    const BatchItem& item = batch[rows_[task.first_row].item];
    std::vector<const uint8_t*> blocks;
    for (uint32_t position = 0; position < most_visible; position += kBlockTokens) {
        blocks.push_back(kv_head(item, position, layer, kv_head_index));
    }
    kernels_.attention({spec_.head_dim, blocks.data(), queries, task.query_count, next});
    for (uint32_t i = 0; i < task.query_count; ++i) {
        note(task.first_row + (task.first_query + i) / group, layer, Place::kAttention, queries[i].finite);
    }
}

void HostEngine::add_to_residual() {
    Buffers& b = *buffers_;
    threads_.run(static_cast<uint32_t>(rows_.size()), [&](uint32_t row) {
        const size_t at = size_t{row} * spec_.d_model;
        kernels_.add(b.residual.data() + at, b.delta.data() + at, spec_.d_model);
    });
}

}  // namespace driftwood::compute
