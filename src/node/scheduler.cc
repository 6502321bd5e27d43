#include "node/scheduler.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/fp_environment.h"

namespace driftwood::node {

using Kind = actor::Step::Kind;

Scheduler::Scheduler(compute::Engine& engine, const SchedulerOptions& options, Perform perform)
    : options_(options),
      perform_(std::move(perform)),
      batcher_(engine, options.step),
      threads_(options.threads != 0 ? options.threads : compute::available_cores(),
               [] { FpEnvironment::enter(Subnormals::kKeep); }) {}

Result<Scheduler::Key> Scheduler::add(LiveActor actor) {
    if (actors_.size() >= options_.max_actors) {
        return error(ErrorCode::kLimit, "[node.add] " + std::to_string(actors_.size()) +
                                            " actors: that is the limit; wait until one is removed");
    }
    const Key key = next_key_++;
    Slot slot{.key = key, .live = std::move(actor), .member = nullptr};
    slot.member =
        std::make_unique<ActorMember>(*slot.live.actor, [this, key](const actor::Step& step) { perform_(key, step); });
    actors_.emplace(key, std::move(slot));
    return key;
}

LiveActor Scheduler::remove(Key key) {
    const auto found = actors_.find(key);
    CHECK(found != actors_.end());
    LiveActor live = std::move(found->second.live);
    actors_.erase(found);
    return live;
}

bool Scheduler::run_turns(Round& round) {
    bool stepped = false;
    for (auto& [key, slot] : actors_) {
        for (; slot.host_steps < options_.host_steps; ++slot.host_steps) {
            const Kind next = slot.live.actor->next();
            if (next != Kind::kTurn && next != Kind::kTensor) break;
            perform_(key, slot.live.actor->step());
            if (next == Kind::kTensor) slot.host_steps = options_.host_steps - 1;  // it may take as long as all turns
            ++round.host_steps;
            stepped = true;
        }
    }
    return stepped;
}

bool Scheduler::run_samples(Round& round) {
    std::vector<Slot*> sampling;
    for (auto& [key, slot] : actors_) {
        if (slot.host_steps >= options_.host_steps || slot.live.actor->next() != Kind::kSample) continue;
        ++slot.host_steps;
        sampling.push_back(&slot);
    }
    if (sampling.empty()) return false;
    std::vector<actor::Step> steps(sampling.size());
    threads_.run(static_cast<uint32_t>(sampling.size()),
                 [&](uint32_t i) { steps[i] = sampling[i]->live.actor->step(); });
    for (size_t i = 0; i < sampling.size(); ++i) perform_(sampling[i]->key, steps[i]);
    round.host_steps += static_cast<uint32_t>(sampling.size());
    return true;
}

Scheduler::Round Scheduler::round() {
    Round round;
    for (auto& [key, slot] : actors_) {
        slot.host_steps = 0;
        slot.live.actor->wake();
    }
    bool more = true;
    while (more) {
        more = run_turns(round);
        more = run_samples(round) || more;
    }
    std::vector<BatchMember*> members;
    members.reserve(actors_.size());
    for (auto& [key, slot] : actors_) members.push_back(slot.member.get());
    round.forward = batcher_.step(members);
    round.worked = round.host_steps > 0 || round.forward.members > 0;
    return round;
}

std::optional<int64_t> Scheduler::next_timer_in_ns() {
    std::optional<int64_t> first;
    for (auto& [key, slot] : actors_) {
        if (const auto timer = slot.live.actor->next_timer_in_ns()) first = std::min(first.value_or(INT64_MAX), *timer);
    }
    return first;
}

}  // namespace driftwood::node
