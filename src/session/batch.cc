#include "session/batch.h"

#include "base/check.h"

namespace driftwood::session {

Result<uint32_t> Batch::add(Session& session, uint32_t max_tokens) {
    CHECK(outcomes_.empty());
    DW_ASSIGN(auto item, session.plan(max_tokens));
    if (!item) return 0U;
    const auto count = static_cast<uint32_t>(item->tokens.size());
    items_.push_back(*std::move(item));
    sessions_.push_back(&session);
    tokens_ += count;
    return count;
}

void Batch::drop(size_t keep) {
    CHECK(outcomes_.empty());
    while (items_.size() > keep) {
        tokens_ -= static_cast<uint32_t>(items_.back().tokens.size());
        sessions_.back()->drop_plan();
        items_.pop_back();
        sessions_.pop_back();
    }
}

void Batch::run() {
    CHECK(outcomes_.empty());
    if (items_.empty()) return;
    engine_.step(items_);
    for (size_t i = 0; i < items_.size(); ++i) {
        Outcome& outcome = outcomes_.emplace_back();
        const auto count = static_cast<uint32_t>(items_[i].tokens.size());
        if (auto done = sessions_[i]->commit(items_[i]); done.ok()) {
            outcome.tokens = count;
        } else {
            outcome.error = std::move(done).error();
        }
    }
}

void Batch::clear() {
    if (outcomes_.empty()) drop(0);
    items_.clear();
    sessions_.clear();
    outcomes_.clear();
    tokens_ = 0;
}

}  // namespace driftwood::session
