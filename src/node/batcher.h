// Batcher: forms the steps of one engine out of what many members (actors, or sessions by themselves) want computed.
// Who is in a step is the policy's to say (step_policy.h); no choice changes a bit of what anybody gets.
//
// When KV blocks run out: a prompt begins only where there are blocks for all of it and one for each decode; who finds
// none asks for idle memory (set_make_room), and waits for others to end. When nobody can go on, one fails: the member
// that came last. The others go on.
//
// Threads: the engine's submitting thread. Lifetime: the engine outlives the batcher, members outlive the call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "actor/actor.h"
#include "node/step_policy.h"
#include "session/batch.h"

namespace driftwood::node {

// Limits for an engine of that name: what it computes of a prompt in the time that people do not notice.
StepLimits step_limits(std::string_view engine);

// Somebody whose forward work goes into the engine's steps. Its order of events is its own: work that it is granted is
// planned and committed whole.
class BatchMember {
  public:
    virtual ~BatchMember() = default;
    virtual actor::ForwardWork forward_work() const = 0;  // of no tokens: it wants nothing
    // As actor::Actor: false (only with kWait) when there were no blocks and nothing happened.
    virtual bool plan(session::Batch& batch, uint32_t max_tokens, actor::FullPool full) = 0;
    virtual void commit(const session::Batch& batch) = 0;
    // As actor::Actor::reuse_prefix: how many tokens of its prompt need not be computed any more.
    virtual uint32_t reuse_prefix() = 0;

  private:
    friend class Batcher;
    uint64_t wants_since_ = 0;  // the number, counted from 1, of its wish among all; 0: it wants nothing
    uint64_t served_ = 0;       // the number of its last service among all
    uint64_t served_in_ = 0;    // the step of it, or the one in which it began to want
    bool began_ = false;        // some of what it wants has been computed
};

class Batcher {
  public:
    // `blocks` are the engine's.
    Batcher(compute::Engine& engine, const session::BlockRefs& blocks, const StepLimits& limits)
        : engine_(engine), blocks_(blocks), batch_(engine), limits_(limits) {}

    // Asked when somebody cannot go on for want of blocks: frees some that no member needs now, and says whether it
    // did.
    void set_make_room(std::function<bool()> make_room) { make_room_ = std::move(make_room); }

    struct Report {
        uint32_t members = 0;        // in the step
        uint32_t decode_tokens = 0;  // planned
        uint32_t prompt_tokens = 0;
        uint32_t reused_tokens = 0;  // of prompts that others have computed
        uint32_t waiting = 0;        // that want something and were not in it
        uint32_t no_blocks = 0;      // of those, for want of KV blocks
        bool forced = false;         // somebody was planned though the pool is full: it fails, if nothing was freed
    };
    // One step of the engine for those of `members` that want something. Every member is there once.
    Report step(std::span<BatchMember* const> members);
    uint64_t steps() const { return steps_; }

  private:
    struct Wish {
        BatchMember* member;
        actor::ForwardWork work;
        Candidate candidate;
    };
    Candidate candidate_of(const BatchMember& member, const actor::ForwardWork& work) const;
    void collect(std::span<BatchMember* const> members);
    bool has_blocks(const Wish& wish) const;
    bool plan(const Wish& wish, uint32_t tokens, actor::FullPool full, Report& report);
    void plan_all(Report& report);
    void plan_somebody(Report& report);

    // Of a prompt that is about to be computed.
    void reuse_prefix(Wish& wish, Report& report);

    compute::Engine& engine_;
    const session::BlockRefs& blocks_;
    session::Batch batch_;
    StepLimits limits_;
    std::function<bool()> make_room_;
    uint64_t steps_ = 0;
    uint64_t wishes_ = 0;
    uint64_t services_ = 0;
    std::vector<Wish> wishing_;  // of the step in progress, the oldest wish first
    std::vector<BatchMember*> planned_;
    uint32_t decoding_ = 0;  // sessions that want a token
};

// An actor as a member: what a forward step gives goes to `perform`.
class ActorMember final : public BatchMember {
  public:
    ActorMember(actor::Actor& actor, std::function<void(const actor::Step&)> perform)
        : actor_(&actor), perform_(std::move(perform)) {}
    actor::ForwardWork forward_work() const override;
    bool plan(session::Batch& batch, uint32_t max_tokens, actor::FullPool full) override;
    void commit(const session::Batch& batch) override;
    uint32_t reuse_prefix() override;

  private:
    actor::Actor* actor_;
    std::function<void(const actor::Step&)> perform_;
};

// A session by itself. An error ends its work: it wants nothing more.
class SessionMember final : public BatchMember {
  public:
    explicit SessionMember(session::Session& session) : session_(session) {}
    actor::ForwardWork forward_work() const override;
    bool plan(session::Batch& batch, uint32_t max_tokens, actor::FullPool full) override;
    void commit(const session::Batch& batch) override;
    uint32_t reuse_prefix() override;
    const std::optional<Error>& failure() const { return failure_; }

  private:
    session::Session& session_;
    size_t item_ = 0;
    std::optional<Error> failure_;
};

}  // namespace driftwood::node
