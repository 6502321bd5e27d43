// The measurement itself: sessions filled to the depth, then steps under the clock.
#include <chrono>
#include <cmath>
#include <numeric>

#include "cli/bench.h"
#include "session/block_table.h"

namespace driftwood::cli {
namespace {

using compute::kBlockTokens;

uint64_t linear_weights(const compute::DecoderSpec& spec) {
    const uint64_t d = spec.d_model;
    const uint64_t q = uint64_t{spec.heads} * spec.head_dim;
    const uint64_t kv = uint64_t{spec.kv_heads} * spec.head_dim;
    return spec.layers * (2 * d * (q + kv) + 3 * d * spec.d_ff);
}

uint64_t layer_bytes(const compute::DecoderSpec& spec) {
    uint64_t bytes = 0;
    for (const compute::DecoderLayer& layer : spec.layer) {
        for (const compute::MatrixView* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
            bytes += matrix->bytes.size();
        }
    }
    return bytes;
}

}  // namespace

double tokens_of(const BenchCase& one) {
    return static_cast<double>(one.sessions) * static_cast<double>(one.n_prompt + one.n_gen);
}

double mean(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
    if (values.size() < 2) return 0;
    const double middle = mean(values);
    double squares = 0;
    for (const double value : values) squares += (value - middle) * (value - middle);
    return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

std::string case_name(const BenchCase& one) {
    std::string name = one.n_prompt > 0 ? "pp" + std::to_string(one.n_prompt) : "tg" + std::to_string(one.n_gen);
    if (one.depth > 0) name += " @ d" + std::to_string(one.depth);
    if (one.sessions > 1) name += " x" + std::to_string(one.sessions);
    return name;
}

BenchWork work_of(const compute::DecoderSpec& spec, const BenchCase& one) {
    const auto steps = one.n_prompt > 0 ? (one.n_prompt + one.n_batch - 1) / one.n_batch : one.n_gen;
    const double with_logits = one.sessions * (one.n_prompt > 0 ? 1.0 : one.n_gen);
    const double logits_steps = one.n_prompt > 0 ? 1.0 : one.n_gen;
    const compute::KvLayout kv{.layers = spec.layers, .kv_heads = spec.kv_heads, .head_dim = spec.head_dim};
    const double kv_per_token = static_cast<double>(kv.layers * kv.kv_heads * kv.head_bytes()) / kBlockTokens;
    const double middle = one.depth + (one.n_prompt + one.n_gen) / 2.0;  // tokens that a step looks back on, on average
    BenchWork work;
    work.bytes = steps * static_cast<double>(layer_bytes(spec)) +
                 logits_steps * static_cast<double>(spec.output.bytes.size()) +
                 steps * one.sessions * middle * kv_per_token;
    work.multiply_adds = tokens_of(one) * static_cast<double>(linear_weights(spec)) +
                         with_logits * static_cast<double>(spec.vocab) * static_cast<double>(spec.d_model);
    return work;
}

Result<BenchRun> BenchRun::create(const model::Model& model, const std::string& isa, uint32_t threads) {
    BenchRun run;
    run.spec_ = &model.spec();
    DW_ASSIGN(run.engine_, compute::make_engine(isa, model.spec(), {.threads = threads}));
    return run;
}

// All sessions append `tokens` tokens; which ones does not matter for the speed.
Result<void> BenchRun::step(uint32_t tokens, bool logits) {
    std::vector<compute::BatchItem> batch;
    tokens_.resize(sessions_.size());
    for (size_t i = 0; i < sessions_.size(); ++i) {
        Session& session = sessions_[i];
        tokens_[i].resize(tokens);
        for (uint32_t& token : tokens_[i]) {
            next_token_ = next_token_ * 1664525U + 1013904223U;
            token = static_cast<uint32_t>(uint64_t{next_token_} * spec_->vocab >> 32);
        }
        batch.push_back(
            {.tokens = tokens_[i],
             .first_position = session.length,
             .blocks = session.blocks,
             .logits = logits ? std::span(logits_).subspan(i * spec_->vocab, spec_->vocab) : std::span<float>(),
             .error = {}});
        session.length += tokens;
    }
    engine_->step(batch);
    for (const compute::BatchItem& item : batch) {
        if (item.error) return *item.error;
    }
    return {};
}

void BenchRun::release() {
    for (const Session& session : sessions_) {
        for (const compute::BlockId block : session.blocks) engine_->pool().release(block);
    }
    sessions_.clear();
}

// The first session computes its depth; the others get copies of its blocks, of their own, so that a step reads each.
Result<void> BenchRun::fill(const BenchCase& one) {
    const uint32_t blocks = session::blocks_for(one.depth + one.n_prompt + one.n_gen);
    compute::KvPool& pool = engine_->pool();
    sessions_.emplace_back();
    for (uint32_t i = 0; i < blocks; ++i) {
        DW_ASSIGN(const compute::BlockId block, pool.allocate());
        sessions_[0].blocks.push_back(block);
    }
    while (sessions_[0].length < one.depth) {
        DW_TRY(step(std::min(compute::kMaxStepTokens, one.depth - sessions_[0].length), false));
    }
    for (uint32_t s = 1; s < one.sessions; ++s) {
        Session& copy = sessions_.emplace_back();
        copy.length = one.depth;
        for (uint32_t i = 0; i < blocks; ++i) {
            DW_ASSIGN(const compute::BlockId block, pool.allocate());
            copy.blocks.push_back(block);
            if (i < session::blocks_for(one.depth)) pool.copy(sessions_[0].blocks[i], block, kBlockTokens);
        }
    }
    logits_.resize(size_t{one.sessions} * spec_->vocab);
    return {};
}

// The case from its depth on, in seconds. Rows of an earlier try are written over.
Result<double> BenchRun::once(const BenchCase& one) {
    for (Session& session : sessions_) session.length = one.depth;
    const auto begin = std::chrono::steady_clock::now();
    for (uint32_t done = 0; done < one.n_prompt;) {
        const uint32_t count = std::min(one.n_batch, one.n_prompt - done);
        done += count;
        DW_TRY(step(count, done == one.n_prompt));
    }
    for (uint32_t i = 0; i < one.n_gen; ++i) DW_TRY(step(1, true));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result<BenchResult> BenchRun::run(const BenchCase& one, uint32_t repetitions) {
    const uint64_t positions = uint64_t{one.depth} + one.n_prompt + one.n_gen;
    if (positions > spec_->context) {
        return error(ErrorCode::kInvalidArgument, "[bench] " + case_name(one) + ": wants " + std::to_string(positions) +
                                                      " positions, the model has " + std::to_string(spec_->context));
    }
    release();
    DW_TRY(fill(one));
    BenchResult result{.one = one, .seconds = {}};
    BenchCase warm_up = one;
    warm_up.n_gen = std::min(one.n_gen, 4U);
    warm_up.n_prompt = std::min(one.n_prompt, one.n_batch);
    DW_TRY(once(warm_up));
    for (uint32_t i = 0; i < repetitions; ++i) {
        DW_ASSIGN(const double seconds, once(one));
        result.seconds.push_back(seconds);
    }
    release();
    return result;
}

}  // namespace driftwood::cli
