// Scheduler: many actors on one engine. A round lets each do what it can without the engine (turns, tensors, samples),
// then takes one step of the engine for all that want forward work (batcher.h). An actor's own order of events is what
// it would be alone, so its image is too, whoever is beside it.
//
//   auto key = scheduler.add(std::move(live));
//   scheduler.send(key, "Hello!");
//   while (scheduler.round().worked) {}
//
// Actors that wait for a message are parked (parking.h) when their KV blocks are wanted, when they have waited for
// long, or when all of them take more memory than they may, as the parking's policy says; the next message thaws them.
//
// Nobody can hold up the others for long: a turn has its deadline, and an actor gets `host_steps` of them in a round.
// An actor that fails stays, failed, until it is removed.
//
// Threads: the engine's submitting thread; samples, which touch one actor each, are drawn on helpers too. Lifetime: the
// engine outlives the scheduler; actors' modules outlive them (LiveActor holds its own).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "node/batcher.h"
#include "node/node.h"
#include "node/parking.h"

namespace driftwood::node {

struct SchedulerOptions {
    StepLimits step;
    uint32_t max_actors = 4096;
    uint32_t host_steps = 64;  // of an actor in one round
    uint32_t threads = 0;      // that sample; 0: the cores this process may use
};

class Scheduler {
  public:
    using Key = uint64_t;
    // Performs a step's effects, and may look at the rest of it. Called after every step, in order; must not call the
    // scheduler.
    using Perform = std::function<void(Key, const actor::Step&)>;

    // `blocks` are the engine's. `parking` outlives the scheduler; null: actors stay where they are.
    Scheduler(compute::Engine& engine, const session::BlockRefs& blocks, const SchedulerOptions& options,
              Perform perform, Parking* parking = nullptr);
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    // kLimit when there are max_actors.
    Result<Key> add(LiveActor actor);
    // The actor as it is between two steps, to be frozen, kept or dropped; nothing of one that is parked, whose image
    // goes. Preconditions here and below: the key is of an actor that was added and not removed.
    LiveActor remove(Key key);
    actor::Actor& at(Key key);  // precondition: it is not parked
    bool parked(Key key) const { return actors_.at(key).live.actor == nullptr; }
    // Thaws it now, if it is parked. kLimit: there is no room for its KV, even after others are parked.
    Result<void> fetch(Key key);
    // As Actor::send: kLimit when its mailbox is full. A parked actor is thawed first; until there is room for it, its
    // messages wait.
    Result<void> send(Key key, std::string_view message);

    struct Round {
        bool worked = false;  // somebody did something; else all wait
        uint32_t parked = 0;  // in this round
        uint32_t fetched = 0;
        uint32_t host_steps = 0;
        Batcher::Report forward;
        int64_t turns_ns = 0;  // of a monotonic clock: turns and tensors, samples, the engine's step
        int64_t samples_ns = 0;
        int64_t forward_ns = 0;
    };
    Round round();
    // Until the first timer of any actor is due; nothing if none is set.
    std::optional<int64_t> next_timer_in_ns();
    // The linear memory of guests that are here, and the KV blocks that somebody holds.
    uint64_t memory_bytes() const;

    size_t actors() const { return actors_.size(); }
    uint64_t steps() const { return batcher_.steps(); }

  private:
    struct Slot {
        Key key = 0;
        LiveActor live;
        std::unique_ptr<ActorMember> member;
        uint32_t host_steps = 0;         // in this round
        uint64_t used = 0;               // the round in which it last stepped or was sent something
        int64_t used_ns = 0;             // by the parking's clock, at the end of that round or at the sending
        std::vector<std::string> inbox;  // of a parked one
        bool stays = false;              // an image of it could not be written
    };
    void attach(Slot& slot);
    // It waits for a message and for nothing else.
    static bool can_park(const Slot& slot);
    Result<void> park(Slot& slot, Round& round);
    Result<void> fetch(Slot& slot, Round& round);
    // Parks the idle actor that was used longest ago, of those that hold KV or of all; whether there was one.
    enum class Holding : uint8_t { kBlocks, kAnything };
    bool park_oldest(Holding holding, Round& round);
    // Parks those that the policy names.
    void park_idle(Round& round);
    // Thaws parked actors that have been sent something, as far as there is room.
    void fetch_parked(Round& round);
    // One pass over all actors; whether any stepped.
    bool run_turns(Round& round);
    bool run_samples(Round& round);

    SchedulerOptions options_;
    Perform perform_;
    Parking* parking_;
    const session::BlockRefs& blocks_;
    Batcher batcher_;
    compute::LazyPool threads_;
    Key next_key_ = 1;
    uint64_t rounds_ = 0;
    std::map<Key, Slot> actors_;
};

}  // namespace driftwood::node
