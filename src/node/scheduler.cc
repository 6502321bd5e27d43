#include "node/scheduler.h"

#include <algorithm>
#include <string>
#include <vector>

#include "actor/limits.h"
#include "base/check.h"
#include "base/fp_environment.h"
#include "node/stopwatch.h"

namespace driftwood::node {

using Kind = actor::Step::Kind;

Scheduler::Scheduler(compute::Engine& engine, const session::BlockRefs& blocks, const SchedulerOptions& options,
                     Perform perform, Parking* parking)
    : options_(options),
      perform_(std::move(perform)),
      parking_(parking),
      blocks_(blocks),
      batcher_(engine, blocks, options.step),
      threads_(options.threads != 0 ? options.threads : compute::available_cores(),
               [] { FpEnvironment::enter(Subnormals::kKeep); }) {}

Result<Scheduler::Key> Scheduler::add(LiveActor actor) {
    if (actors_.size() >= options_.max_actors) {
        return error(ErrorCode::kLimit, "[node.add] " + std::to_string(actors_.size()) +
                                            " actors: that is the limit; wait until one is removed");
    }
    const Key key = next_key_++;
    Slot& slot = actors_[key];
    slot.key = key;
    slot.live = std::move(actor);
    slot.used = rounds_;
    if (parking_ != nullptr) slot.used_ns = parking_->now_ns();
    attach(slot);
    return key;
}

void Scheduler::attach(Slot& slot) {
    slot.member = std::make_unique<ActorMember>(
        *slot.live.actor, [this, key = slot.key](const actor::Step& step) { perform_(key, step); });
}

LiveActor Scheduler::remove(Key key) {
    const auto found = actors_.find(key);
    CHECK(found != actors_.end());
    if (parked(key)) parking_->forget(key);
    LiveActor live = std::move(found->second.live);
    actors_.erase(found);
    return live;
}

actor::Actor& Scheduler::at(Key key) {
    CHECK(!parked(key));
    return *actors_.at(key).live.actor;
}

Result<void> Scheduler::send(Key key, std::string_view message) {
    Slot& slot = actors_.at(key);
    slot.used = rounds_;
    if (parking_ != nullptr) slot.used_ns = parking_->now_ns();
    if (slot.live.actor) return slot.live.actor->send(message);
    if (slot.inbox.size() >= actor::kMaxMailboxMessages || message.size() > actor::kMaxMessageBytes) {
        return error(ErrorCode::kLimit, "[node.send] the actor is parked and has " + std::to_string(slot.inbox.size()) +
                                            " messages; this one has " + std::to_string(message.size()) +
                                            " bytes: the limits are " + std::to_string(actor::kMaxMailboxMessages) +
                                            " and " + std::to_string(actor::kMaxMessageBytes));
    }
    slot.inbox.emplace_back(message);
    return {};
}

bool Scheduler::can_park(const Slot& slot) {
    if (!slot.live.actor || slot.stays) return false;
    actor::Actor& actor = *slot.live.actor;
    return actor.state() == actor::Actor::State::kWaiting && actor.listens() && !actor.next_timer_in_ns();
}

Result<void> Scheduler::park(Slot& slot, Round& round) {
    slot.member.reset();
    auto parked = parking_->park(slot.key, slot.live);
    if (parked.ok()) {
        ++round.parked;
    } else {
        slot.stays = true;
        attach(slot);
    }
    return parked;
}

bool Scheduler::park_oldest(Holding holding, Round& round) {
    if (parking_ == nullptr) return false;
    for (;;) {
        Slot* oldest = nullptr;
        for (auto& [key, slot] : actors_) {
            if (!can_park(slot) || (oldest != nullptr && slot.used >= oldest->used)) continue;
            const auto sessions = slot.live.actor->sessions();
            const bool holds = std::any_of(sessions.begin(), sessions.end(),
                                           [](const session::Session* session) { return !session->blocks().empty(); });
            if (holds || holding == Holding::kAnything) oldest = &slot;
        }
        if (oldest == nullptr) return false;
        if (park(*oldest, round).ok()) return true;
    }
}

uint64_t Scheduler::memory_bytes() const {
    const compute::KvPool& pool = blocks_.pool();
    uint64_t bytes = uint64_t{pool.blocks_in_use() - blocks_.idle_prefixes()} * pool.layout().block_bytes();
    for (const auto& [key, slot] : actors_) {
        if (slot.live.actor) bytes += slot.live.actor->instance().memory().size();
    }
    return bytes;
}

void Scheduler::park_idle(Round& round) {
    if (parking_ == nullptr) return;
    const ParkingPolicy& policy = parking_->policy();
    const int64_t now_ns = parking_->now_ns();
    for (auto& [key, slot] : actors_) {
        if (slot.used == rounds_) slot.used_ns = now_ns;
        if (policy.idle_ns && now_ns - slot.used_ns >= *policy.idle_ns && can_park(slot)) {
            static_cast<void>(park(slot, round));  // who cannot be parked stays
        }
    }
    while (policy.memory_bytes && memory_bytes() > *policy.memory_bytes && park_oldest(Holding::kAnything, round)) {
    }
}

Result<void> Scheduler::fetch(Slot& slot, Round& round) {
    auto live = parking_->fetch(slot.key);
    while (!live.ok() && live.error().code == ErrorCode::kLimit && park_oldest(Holding::kBlocks, round)) {
        live = parking_->fetch(slot.key);
    }
    DW_ASSIGN(slot.live, std::move(live));
    attach(slot);
    ++round.fetched;
    for (const std::string& message : std::exchange(slot.inbox, {})) {
        const auto sent = slot.live.actor->send(message);
        CHECK(sent.ok());  // its mailbox was empty: it waited for a message
    }
    return {};
}

Result<void> Scheduler::fetch(Key key) {
    Round outside;
    if (!parked(key)) return {};
    Slot& slot = actors_.at(key);
    slot.used = rounds_;
    slot.used_ns = parking_->now_ns();
    return fetch(slot, outside);
}

void Scheduler::fetch_parked(Round& round) {
    for (auto& [key, slot] : actors_) {
        if (slot.live.actor || slot.inbox.empty()) continue;
        auto fetched = fetch(slot, round);
        if (fetched.ok() || fetched.error().code == ErrorCode::kLimit) continue;  // there is room when others end
        actor::Step step;
        step.error = std::move(fetched).error();
        slot.inbox.clear();
        perform_(key, step);
    }
}

bool Scheduler::run_turns(Round& round) {
    bool stepped = false;
    for (auto& [key, slot] : actors_) {
        if (!slot.live.actor) continue;
        for (; slot.host_steps < options_.host_steps; ++slot.host_steps) {
            const Kind next = slot.live.actor->next();
            if (next != Kind::kTurn && next != Kind::kTensor) break;
            perform_(key, slot.live.actor->step());
            slot.used = rounds_;
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
        if (!slot.live.actor || slot.host_steps >= options_.host_steps || slot.live.actor->next() != Kind::kSample)
            continue;
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
    ++rounds_;
    fetch_parked(round);
    for (auto& [key, slot] : actors_) {
        slot.host_steps = 0;
        if (slot.live.actor) slot.live.actor->wake();
    }
    Stopwatch watch;
    bool more = true;
    while (more) {
        more = run_turns(round);
        round.turns_ns += watch.lap_ns();
        more = run_samples(round) || more;
        round.samples_ns += watch.lap_ns();
    }
    std::vector<BatchMember*> members;
    members.reserve(actors_.size());
    for (auto& [key, slot] : actors_) {
        if (slot.live.actor) members.push_back(slot.member.get());
    }
    batcher_.set_make_room([&] { return park_oldest(Holding::kBlocks, round); });
    round.forward = batcher_.step(members);
    batcher_.set_make_room({});
    round.forward_ns = watch.lap_ns();
    park_idle(round);
    round.worked = round.host_steps > 0 || round.forward.members > 0 || round.parked > 0 || round.fetched > 0;
    return round;
}

std::optional<int64_t> Scheduler::next_timer_in_ns() {
    std::optional<int64_t> first;
    for (auto& [key, slot] : actors_) {
        if (!slot.live.actor) continue;
        if (const auto timer = slot.live.actor->next_timer_in_ns()) first = std::min(first.value_or(INT64_MAX), *timer);
    }
    return first;
}

}  // namespace driftwood::node
