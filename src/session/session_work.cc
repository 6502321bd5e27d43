// Forward work and its blocks: plan, commit, and what keeps KV rows in order.
#include <algorithm>

#include "base/check.h"
#include "session/session_state.h"

namespace driftwood::session {

using compute::kBlockTokens;

void Session::State::drop_blocks(uint32_t keep) {
    while (blocks.size() > keep) {
        refs.release(blocks.back());
        blocks.pop_back();
    }
    std::erase_if(unverified, [keep](uint32_t index) { return index >= keep; });
    if (unverified.empty()) image.reset();
}

PrefixKey Session::State::next_prefix_key() const {
    const size_t at = prefix_keys.size() * kBlockTokens;
    return prefix_key(at == 0 ? *prefix_root : prefix_keys.back(), std::span(tokens).subspan(at, kBlockTokens));
}

void Session::State::publish_prefix() {
    if (!prefix_root || from_image) return;
    while (prefix_keys.size() < computed / kBlockTokens) {
        const PrefixKey key = next_prefix_key();
        compute::BlockId& block = blocks[prefix_keys.size()];
        block = refs.publish_prefix(key, block);
        prefix_keys.push_back(key);
    }
}

void Session::State::forget_computed() {
    drop_blocks(0);
    prefix_keys.clear();
    from_image = false;
    computed = 0;
    logits = {};
}

Result<void> Session::State::verify_block(uint32_t index) {
    const auto found = std::find(unverified.begin(), unverified.end(), index);
    if (found == unverified.end()) return {};
    const uint64_t size = refs.pool().layout().block_bytes();
    DW_TRY(image->verify(image_kv, index * size, size));
    DW_TRY(refs.pool().validate(blocks[index]));
    const uint32_t rows = std::min(computed - index * kBlockTokens, kBlockTokens);
    if (rows < kBlockTokens && !rows_are_zero(refs.pool().layout(), refs.pool().bytes(blocks[index]), rows)) {
        return error(ErrorCode::kCorrupt, "[session.verify] " + image_what + ": rows beyond token " +
                                              std::to_string(computed) + " are not zero");
    }
    DW_TRY(refs.pool().check_intact(blocks[index]));
    unverified.erase(found);
    if (unverified.empty()) image.reset();
    return {};
}

Result<void> Session::State::verify_all_blocks() {
    // Hashes are most of the work, and remembered by the image; what else is looked at is looked at in order.
    const uint64_t size = refs.pool().layout().block_bytes();
    if (unverified.size() > 1) {
        refs.helpers().run(static_cast<uint32_t>(unverified.size()), [&](uint32_t i) {
            static_cast<void>(image->verify(image_kv, unverified[i] * size, size));  // what is wrong is said below
        });
    }
    while (!unverified.empty()) DW_TRY(verify_block(unverified.front()));
    return {};
}

Result<void> Session::State::check_intact() const {
    for (const compute::BlockId block : blocks) DW_TRY(refs.pool().check_intact(block));
    return {};
}

Result<void> Session::State::own_block(uint32_t index, uint32_t rows) {
    DW_TRY(verify_block(index));
    if (!refs.shared(blocks[index])) {
        refs.forget_prefix(blocks[index]);
        return {};
    }
    DW_ASSIGN(const compute::BlockId copy, refs.allocate());
    refs.pool().copy(blocks[index], copy, rows);
    auto intact = refs.pool().check_intact(blocks[index]);
    refs.release(intact.ok() ? blocks[index] : copy);
    if (intact.ok()) blocks[index] = copy;
    return intact;
}

Result<void> Session::State::truncate(uint32_t count) {
    CHECK(count <= computed);
    if (count == computed) return {};
    const uint32_t rows = count % kBlockTokens;
    if (rows > 0) {
        DW_TRY(own_block(count / kBlockTokens, rows));
        refs.pool().clear_rows(blocks[count / kBlockTokens], rows);
    }
    drop_blocks(blocks_for(count));
    computed = count;
    if (count <= prefix_keys.size() * kBlockTokens) from_image = false;
    prefix_keys.resize(std::min<size_t>(prefix_keys.size(), count / kBlockTokens));
    logits = {};
    return {};
}

uint32_t Session::reuse() {
    State& s = *state_;
    drop_plan();
    const uint32_t before = s.computed;
    if (!s.prefix_root || s.from_image || before % kBlockTokens != 0 || s.engine.failure()) return 0;
    while (s.tokens.size() - s.computed > kBlockTokens) {
        const PrefixKey key = s.next_prefix_key();
        const auto block = s.refs.take_prefix(key);
        if (!block) break;
        s.blocks.push_back(*block);
        s.prefix_keys.push_back(key);
        s.computed += kBlockTokens;
    }
    if (s.computed > before) s.logits = {};
    return s.computed - before;
}

Result<std::optional<compute::BatchItem>> Session::plan(uint32_t max_tokens) {
    State& s = *state_;
    drop_plan();
    const size_t pending = s.tokens.size() - s.computed;
    if (pending == 0) return std::optional<compute::BatchItem>();
    const auto count = static_cast<uint32_t>(std::min<size_t>({pending, max_tokens, compute::kMaxStepTokens}));
    if (count == 0) return error(ErrorCode::kInvalidArgument, "[session.plan] a step of 0 tokens");
    DW_TRY(s.verify_all_blocks());
    if (const uint32_t rows = s.computed % kBlockTokens; rows > 0) {
        DW_TRY(s.own_block(s.computed / kBlockTokens, rows));
    }
    while (s.blocks.size() < blocks_for(s.computed + count)) {
        auto block = s.refs.allocate();
        if (!block.ok()) {
            s.drop_blocks(blocks_for(s.computed));
            return std::move(block).error();
        }
        s.blocks.push_back(*block);
    }
    s.step_logits = count == pending ? s.engine.logits_memory() : compute::Logits();
    s.planned = count;
    return std::optional<compute::BatchItem>(
        compute::BatchItem{.tokens = std::span(s.tokens).subspan(s.computed, count),
                           .first_position = s.computed,
                           .blocks = s.blocks,
                           .logits = s.step_logits.values(),
                           .error = {}});
}

void Session::drop_plan() {
    state_->planned = 0;
    state_->step_logits = {};
    state_->drop_blocks(blocks_for(state_->computed));
}

Result<void> Session::commit(const compute::BatchItem& item) {
    State& s = *state_;
    CHECK(s.planned > 0 && item.first_position == s.computed && item.tokens.size() == s.planned);
    const uint32_t count = s.planned;
    compute::Logits logits = std::move(s.step_logits);
    s.planned = 0;
    if (item.error) {
        s.drop_blocks(blocks_for(s.computed));
        return *item.error;
    }
    if (auto intact = s.check_intact(); !intact.ok()) {
        s.drop_blocks(blocks_for(s.computed));
        return intact;
    }
    s.computed += count;
    s.logits = std::move(logits);
    s.publish_prefix();
    return {};
}

Result<void> Session::want_logits() {
    State& s = *state_;
    DW_TRY(s.check_idle("session.logits"));
    if (s.tokens.empty()) return error(ErrorCode::kInvalidArgument, "[session.logits] there are no tokens");
    if (s.computed < s.tokens.size() || !s.logits.empty()) return {};
    return s.truncate(s.computed - 1);
}

}  // namespace driftwood::session
