#include "compute/cuda/single_decode.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "compute/cuda/layout.h"
#include "compute/step.h"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kChunkStep = 64;  // the exchange of chunks grows by so many
// What a step takes at most before the thread sleeps on the card instead of looking at the notes.
constexpr std::chrono::milliseconds kSpin(5);
constexpr uint32_t kLooksPerClock = 64;
constexpr size_t kPiecesAhead = 3;
constexpr size_t kLineFloats = 16;

}  // namespace

Result<std::unique_ptr<SingleDecode>> SingleDecode::create(const DecoderSpec& spec, const Weights& weights,
                                                           const float* cosine, const float* sine,
                                                           const Stream& stream) {
    std::vector<StepLayer> layers;
    for (const LayerWeights& layer : weights.layer) {
        layers.push_back({layer.attn_norm, layer.ffn_norm, layer.wq, layer.wk, layer.wv, layer.wo, layer.w_gate,
                          layer.w_up, layer.w_down});
    }
    std::unique_ptr<SingleDecode> made(new SingleDecode(spec, stream));
    DecodeStep& args = made->args_;
    args.embedding = weights.embedding;
    args.output = weights.output;
    args.output_norm = weights.output_norm;
    args.layers = spec.layers;
    args.d_model = spec.d_model;
    args.heads = spec.heads;
    args.kv_heads = spec.kv_heads;
    args.head_dim = spec.head_dim;
    args.d_ff = spec.d_ff;
    args.inverse_width = 1.0F / static_cast<float>(spec.d_model);
    args.eps = spec.norm_eps;
    args.query_scale = score_scale(spec.head_dim);
    args.pairs = spec.rope_pairs;
    args.cosine = cosine;
    args.sine = sine;
    made->plan_ = plan_decode_step(args, layers);
    if (made->plan_.blocks == 0) return std::unique_ptr<SingleDecode>();

    const size_t size = layers.size() * sizeof(StepLayer);
    DW_TRY(made->layers_.hold(size));
    DW_TRY(check("copy the layers' table",
                 cudaMemcpyAsync(made->layers_.as<void>(), layers.data(), size, cudaMemcpyHostToDevice, stream.get())));
    DW_TRY(stream.wait());
    args.layer = made->layers_.as<StepLayer>();
    DW_TRY(made->make_exchange());
    return made;
}

Result<void> SingleDecode::make_exchange() {
    const size_t q_width = size_t{spec_.heads} * spec_.head_dim;
    const size_t kv_width = size_t{spec_.kv_heads} * spec_.head_dim;
    const size_t groups = padded_groups(spec_.d_ff);
    const size_t group_words = 2 * kGroup / sizeof(uint32_t);  // of activations in digits
    DW_TRY(
        words_.hold((2 * size_t{spec_.d_model} + 2 * q_width + 2 * kv_width + spec_.d_ff + groups * (group_words + 1)) *
                    sizeof(uint64_t)));
    StepExchange& exchange = args_.exchange;
    exchange.hidden = words_.as<uint64_t>();
    exchange.residual = exchange.hidden + spec_.d_model;
    exchange.qkv = exchange.residual + spec_.d_model;
    exchange.attended = exchange.qkv + q_width + 2 * kv_width;
    exchange.gated = exchange.attended + q_width;
    exchange.gated_words = exchange.gated + spec_.d_ff;
    exchange.gated_scales = exchange.gated_words + groups * group_words;
    DW_TRY(logits_.hold(spec_.vocab * sizeof(float)));
    DW_TRY(notes_.hold(plan_.blocks * sizeof(StepNote)));
    std::memset(notes_.as<void>(), 0, notes_.size());
    args_.note = notes_.as<StepNote>();
    given_.resize(plan_.blocks);
    there_.reserve(plan_.blocks);
    return {};
}

// Room for the parts of so many chunks, and for the table of blocks.
Result<void> SingleDecode::hold_chunks(uint32_t chunks) {
    if (chunks <= args_.max_chunks) return {};
    const uint32_t most = (chunks + kChunkStep - 1) / kChunkStep * kChunkStep;
    const size_t parts = size_t{args_.heads} * most;
    args_.max_chunks = 0;  // where one of both fails, the next step holds them anew
    DW_TRY(parts_.hold(parts * (3 + args_.head_dim) * sizeof(uint64_t)));
    DW_TRY(blocks_.hold(most * sizeof(uint8_t*)));
    args_.exchange.part = parts_.as<uint64_t>();
    args_.exchange.part_sum = args_.exchange.part + 3 * parts;
    args_.block = blocks_.as<uint8_t*>();
    args_.max_chunks = most;
    fresh_tags_ = true;
    return {};
}

// Tags of a step are above those of all steps before, or the words are cleared.
Result<void> SingleDecode::hold_tags() {
    const uint32_t count = args_.layers + 1;
    if (!fresh_tags_ && args_.tag <= UINT32_MAX - 2 * count) {
        args_.tag += count;
        return {};
    }
    for (const DeviceBytes* words : {&words_, &parts_}) {
        DW_TRY(check("clear tags", cudaMemsetAsync(words->as<void>(), 0, words->size(), stream_.get())));
    }
    args_.tag = 2;
    fresh_tags_ = false;
    return {};
}

Result<void> SingleDecode::step(BatchItem& item, const StepRow& row, LogitsOn logits_on, PagedKvPool& pool) {
    const uint32_t last = row.position / kBlockTokens;
    DW_TRY(hold_chunks(last + 1));
    DW_TRY(hold_tags());
    for (uint32_t b = 0; b <= last; ++b) {
        blocks_.as<uint8_t*>()[b] =
            pool.on_card(item.blocks[b], b == last ? PagedKvPool::Use::kWrite : PagedKvPool::Use::kRead);
    }
    std::fill(given_.begin(), given_.end(), 0);
    args_.token = row.token;
    args_.position = row.position;
    args_.step += 1;
    args_.with_logits = row.logits != nullptr;
    float* const staged = logits_on == LogitsOn::kHostAlone ? row.logits : nullptr;
    args_.logits = staged != nullptr ? logits_.as<float>() : row.logits;
    args_.in_rounds = staged != nullptr;
    DW_TRY(check("launch a step", graph_.launch(stream_.get(), plan_, args_)));
    DW_TRY(wait(staged));
    uint32_t code = kNoFault;
    for (uint32_t i = 0; i < plan_.blocks; ++i) code = std::min(code, notes_.as<StepNote>()[i].fault);
    if (code != kNoFault && fault_counts(spec_, row, code)) item.error = fault_error(code, row.position);
    return {};
}

Result<void> SingleDecode::wait(float* staged) {
    const auto begin = std::chrono::steady_clock::now();
    for (uint32_t looks = 1; !collect(staged); ++looks) {
        if (looks % kLooksPerClock != 0 || std::chrono::steady_clock::now() - begin < kSpin) continue;
        // Long, or the kernel has failed and will say nothing more.
        DW_TRY(stream_.wait());
        if (collect(staged)) return {};
        return error(ErrorCode::kInternal, "[compute.cuda] a step ended without a note of every block");
    }
    return {};
}

bool SingleDecode::collect(float* staged) {
    bool ended = true;
    const uint32_t all_tiles = tiles_of(spec_.vocab);
    there_.clear();
    for (uint32_t i = 0; i < plan_.blocks; ++i) {
        uint32_t& given = given_[i];
        if (given == kStepDone) continue;
        const uint64_t word = std::atomic_ref(notes_.as<StepNote>()[i].word).load(std::memory_order_acquire);
        const auto state = static_cast<uint32_t>(word);
        if (static_cast<uint32_t>(word >> 32) != args_.step) {
            ended = false;
            continue;
        }
        const uint32_t tiles = state & ~kStepDone;
        if (staged != nullptr && tiles > given) {
            const size_t first = size_t{step_share(all_tiles, i, plan_.blocks).begin} * kTileRows;
            there_.push_back(
                {first + size_t{given} * kTileRows, std::min<size_t>(first + size_t{tiles} * kTileRows, spec_.vocab)});
        }
        given = (state & kStepDone) != 0 ? kStepDone : tiles;
        ended &= given == kStepDone;
    }
    // What the card has just written is in no cache of this core: the next pieces come while one is copied.
    for (size_t i = 0; i < there_.size() + kPiecesAhead; ++i) {
        if (i < there_.size()) {
            const auto* begin = logits_.as<float>() + there_[i].begin;
            const auto* end = logits_.as<float>() + there_[i].end;
            for (; begin < end; begin += kLineFloats) __builtin_prefetch(begin, 0, 2);
        }
        if (i < kPiecesAhead) continue;
        const Piece& piece = there_[i - kPiecesAhead];
        std::memcpy(staged + piece.begin, logits_.as<float>() + piece.begin, (piece.end - piece.begin) * sizeof(float));
    }
    return ended;
}

}  // namespace driftwood::compute::cuda
