// Forward steps: what an actor's sessions put into a batch, and what comes of it.
#include <algorithm>

#include "actor/actor_impl.h"
#include "actor/limits.h"

namespace driftwood::actor {
namespace {

// What a guest is told of its session's part of a step that failed.
int64_t step_status(ErrorCode code) {
    switch (code) {
        case ErrorCode::kNotFinite: return -DRIFTWOOD_ENOTFINITE;
        case ErrorCode::kLimit: return -DRIFTWOOD_ENOMEM;
        default: return -DRIFTWOOD_EIO;
    }
}

}  // namespace

bool ActorImpl::wants_forward(int64_t handle, const session::Session& session) const {
    if (session.tokens().size() == session.computed()) return false;
    if (session.finish() == session::Finish::kRunning) return true;
    return std::any_of(operations_.begin(), operations_.end(),
                       [handle](const Operation& operation) { return operation.computes(handle); });
}

ForwardWork ActorImpl::forward_work() const {
    ForwardWork work;
    for (const auto& [handle, session] : sessions_) {
        if (!wants_forward(handle, *session)) continue;
        const auto pending = static_cast<uint32_t>(session->tokens().size()) - session->computed();
        ++work.sessions;
        work.tokens += std::min(pending, kPrefillChunk);
        work.pending += pending;
    }
    return work;
}

uint32_t ActorImpl::reuse_prefix() {
    CHECK(!forward_ && next() == Step::Kind::kForward);
    if (forward_work().sessions != 1) return 0;
    for (auto& [handle, session] : sessions_) {
        if (!wants_forward(handle, *session)) continue;
        const uint32_t tokens = session->reuse();
        note_progress(handle, tokens);
        return tokens;
    }
    return 0;
}

bool ActorImpl::plan_forward(session::Batch& batch, uint32_t max_tokens, FullPool full) {
    CHECK(!forward_ && next() == Step::Kind::kForward);
    forward_.emplace();
    forward_->step.kind = Step::Kind::kForward;
    forward_->first_item = batch.size();
    // Between two chunks of an actor's only session with work nothing happens that could come in another order.
    uint32_t chunk = kPrefillChunk;
    if (forward_work().sessions == 1 && !chunk_by_chunk_) {
        chunk = std::max(max_tokens / kPrefillChunk, 1U) * kPrefillChunk;
    }
    for (const auto& [handle, session] : sessions_) {
        if (!wants_forward(handle, *session)) continue;
        if (plan_session(batch, handle, chunk, full)) continue;
        batch.drop(forward_->first_item);
        forward_->handles.clear();
        if (failure_) break;
        forward_.reset();
        return false;
    }
    return true;
}

// False: the step ends here. It is put off, or the actor has failed.
bool ActorImpl::plan_session(session::Batch& batch, int64_t handle, uint32_t chunk, FullPool full) {
    session::Session& session = *sessions_.at(handle);
    auto planned = batch.add(session, chunk);
    if (!planned.ok() && planned.error().code == ErrorCode::kLimit && chunk > kPrefillChunk) {
        planned = batch.add(session, kPrefillChunk);
    }
    if (planned.ok()) {
        forward_->handles.push_back(handle);
        forward_->long_chunk = *planned > kPrefillChunk;
        return true;
    }
    if (planned.error().code != ErrorCode::kLimit) {
        fail(forward_->step, std::move(planned).error());
        return false;
    }
    if (full == FullPool::kWait) return false;
    session_failed(handle, -DRIFTWOOD_ENOMEM);
    return true;
}

Step ActorImpl::commit_forward(const session::Batch& batch) {
    CHECK(forward_.has_value());
    for (size_t i = 0; i < forward_->handles.size() && !failure_; ++i) {
        commit_session(batch.outcome(forward_->first_item + i), forward_->handles[i]);
    }
    Step step = std::move(forward_->step);
    forward_.reset();
    if (!failure_) step.effects = take_effects();
    end_step(step);
    return step;
}

void ActorImpl::commit_session(const session::Batch::Outcome& outcome, int64_t handle) {
    if (outcome.error) {
        // A file under the KV is gone: the session has nothing to go on from, and neither has the actor.
        if (outcome.error->code == ErrorCode::kIo) return fail(forward_->step, *outcome.error);
        if (forward_->long_chunk) {
            chunk_by_chunk_ = true;  // so that it fails where it would have failed alone
            return;
        }
        push_effect({.kind = Effect::Kind::kLog, .level = DRIFTWOOD_LOG_ERROR, .bytes = outcome.error->message});
        session_failed(handle, step_status(outcome.error->code));
        return;
    }
    forward_->step.tokens += outcome.tokens;
    note_progress(handle, outcome.tokens);
}

void ActorImpl::note_progress(int64_t handle, uint32_t tokens) {
    for (Operation& operation : operations_) {
        if (operation.computes(handle)) operation.progress += tokens;
    }
}

}  // namespace driftwood::actor
