#include "node/batcher.h"

#include <algorithm>

#include "base/check.h"

namespace driftwood::node {

using actor::ForwardWork;
using actor::FullPool;

namespace {

constexpr uint32_t kChunk = compute::kBlockTokens;  // what a session takes of a prompt at least

}  // namespace

StepLimits step_limits(std::string_view engine) {
    if (engine == "cuda") return {.decode_tokens = 256, .prompt_tokens = 256, .prompt_alone = 2048, .patience = 16};
    return {.decode_tokens = 256, .prompt_tokens = kChunk, .prompt_alone = 512, .patience = 16};
}

Candidate Batcher::candidate_of(const BatchMember& member, const ForwardWork& work) const {
    return {.tokens = work.tokens,
            .pending = work.sessions == 1 ? work.pending : work.tokens,
            .decodes = work.pending == work.sessions,
            .waited = steps_ - member.served_in_,
            .served = member.served_};
}

// Who wants what, the oldest wish first.
void Batcher::collect(std::span<BatchMember* const> members) {
    wishing_.clear();
    decoding_ = 0;
    for (BatchMember* member : members) {
        const ForwardWork work = member->forward_work();
        if (work.tokens == 0) {
            member->wants_since_ = 0;
            continue;
        }
        if (member->wants_since_ == 0) {
            member->wants_since_ = ++wishes_;
            member->served_in_ = steps_;
            member->began_ = false;
        }
        wishing_.push_back({member, work, candidate_of(*member, work)});
        if (wishing_.back().candidate.decodes) decoding_ += work.sessions;
    }
    std::sort(wishing_.begin(), wishing_.end(),
              [](const Wish& a, const Wish& b) { return a.member->wants_since_ < b.member->wants_since_; });
}

// For a prompt that begins: blocks for all of it, and one for each decode. What of it could be reused counts too: those
// blocks may be idle ones that somebody else is given first.
bool Batcher::has_blocks(const Wish& wish) const {
    const uint64_t wanted = uint64_t{session::blocks_for(wish.work.pending)} + wish.work.sessions + decoding_;
    return wanted <= blocks_.available();
}

void Batcher::reuse_prefix(Wish& wish, Report& report) {
    const uint32_t tokens = wish.member->reuse_prefix();
    if (tokens == 0) return;
    report.reused_tokens += tokens;
    wish.work = wish.member->forward_work();
    wish.candidate = candidate_of(*wish.member, wish.work);
}

bool Batcher::plan(const Wish& wish, uint32_t tokens, FullPool full, Report& report) {
    const uint32_t before = batch_.tokens();
    if (!wish.member->plan(batch_, tokens, full)) return false;
    planned_.push_back(wish.member);
    (wish.candidate.decodes ? report.decode_tokens : report.prompt_tokens) += batch_.tokens() - before;
    wish.member->served_ = ++services_;
    wish.member->served_in_ = steps_;
    wish.member->began_ = true;
    return true;
}

void Batcher::plan_all(Report& report) {
    std::vector<Candidate> candidates;
    std::vector<const Wish*> admitted;
    bool held_back = false;  // by an older prompt that has waited for blocks for long: those that get free are for it
    for (Wish& wish : wishing_) {
        const bool begins = !wish.candidate.decodes && !wish.member->began_;
        while (begins && !held_back && !has_blocks(wish) && make_room_ && make_room_()) {
        }
        if (!begins || (!held_back && has_blocks(wish))) {
            if (!wish.candidate.decodes) reuse_prefix(wish, report);
            candidates.push_back(wish.candidate);
            admitted.push_back(&wish);
            continue;
        }
        ++report.no_blocks;
        const bool can_be = session::blocks_for(wish.work.pending) <= engine_.pool().capacity();
        held_back = held_back || (can_be && wish.candidate.waited >= limits_.patience);
    }
    for (const Grant& grant : choose_step(limits_, candidates)) {
        // A whole number of chunks, unless it is all.
        const Wish& wish = *admitted[grant.candidate];
        const uint32_t chunks = std::max(grant.tokens / kChunk, 1U) * kChunk;
        const uint32_t tokens = grant.tokens == wish.candidate.pending ? chunks + kChunk : chunks;
        if (plan(wish, tokens, FullPool::kWait, report)) continue;
        if (make_room_ && make_room_() && plan(wish, tokens, FullPool::kWait, report)) continue;
        ++report.no_blocks;
    }
}

// Nobody could go on: the oldest wish for which there is room after all, else the youngest fails.
void Batcher::plan_somebody(Report& report) {
    do {
        for (const Wish& wish : wishing_) {
            if (plan(wish, wish.candidate.tokens, FullPool::kWait, report)) return;
        }
    } while (make_room_ && make_room_());
    CHECK(plan(wishing_.back(), wishing_.back().candidate.tokens, FullPool::kFail, report));
    report.forced = true;
}

Batcher::Report Batcher::step(std::span<BatchMember* const> members) {
    Report report;
    ++steps_;
    collect(members);
    if (wishing_.empty()) return report;
    plan_all(report);
    if (planned_.empty()) plan_somebody(report);
    batch_.run();
    for (BatchMember* member : planned_) member->commit(batch_);
    report.members = static_cast<uint32_t>(planned_.size());
    report.waiting = static_cast<uint32_t>(wishing_.size() - planned_.size());
    batch_.clear();
    planned_.clear();
    return report;
}

// ---- members

ForwardWork ActorMember::forward_work() const {
    return actor_->next() == actor::Step::Kind::kForward ? actor_->forward_work() : ForwardWork{};
}

bool ActorMember::plan(session::Batch& batch, uint32_t max_tokens, FullPool full) {
    return actor_->plan_forward(batch, max_tokens, full);
}

uint32_t ActorMember::reuse_prefix() { return actor_->reuse_prefix(); }

void ActorMember::commit(const session::Batch& batch) { perform_(actor_->commit_forward(batch)); }

ForwardWork SessionMember::forward_work() const {
    const auto pending = static_cast<uint32_t>(session_.tokens().size()) - session_.computed();
    if (pending == 0 || failure_) return {};
    return {.sessions = 1, .tokens = std::min(pending, kChunk), .pending = pending};
}

bool SessionMember::plan(session::Batch& batch, uint32_t max_tokens, FullPool full) {
    item_ = batch.size();
    auto planned = batch.add(session_, max_tokens);
    if (planned.ok()) return true;
    if (planned.error().code == ErrorCode::kLimit && full == FullPool::kWait) return false;
    failure_ = std::move(planned).error();
    return true;
}

uint32_t SessionMember::reuse_prefix() { return session_.reuse(); }

void SessionMember::commit(const session::Batch& batch) {
    if (!failure_) failure_ = batch.outcome(item_).error;
}

}  // namespace driftwood::node
