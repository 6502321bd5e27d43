// Batch: forward work of many sessions in one step of an engine.
//
//   auto planned = batch.add(session, 64);   // of each session; who is asked, and for how much, is the caller's policy
//   batch.run();                             // one Engine::step, then every session's commit
//   batch.outcome(0)                         // in the order of add
//
// What a session gets does not depend on who is beside it: an item that fails is its session's failure alone. Between
// add() and run() or drop() nothing else may be done with a session but its end after a drop(). Threads: the engine's
// submitting thread. Lifetime: the engine outlives the batch; sessions live until run() or drop().
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "compute/engine.h"
#include "session/session.h"

namespace driftwood::session {

class Batch {
  public:
    explicit Batch(compute::Engine& engine) : engine_(engine) {}

    // Plans up to `max_tokens` of the session's pending tokens; how many they are, 0 (and no item) when nothing is
    // pending. Errors are Session::plan's, of this session alone. A session is in a batch once.
    Result<uint32_t> add(Session& session, uint32_t max_tokens);
    // Takes back all items behind the first `keep`: their sessions are as they were.
    void drop(size_t keep);
    // One step for all items, each committed. Without items nothing happens.
    void run();
    // Ready for the next step.
    void clear();

    size_t size() const { return items_.size(); }
    uint32_t tokens() const { return tokens_; }

    struct Outcome {
        uint32_t tokens = 0;         // forwarded; 0 when it failed
        std::optional<Error> error;  // of this session alone
    };
    // Precondition: run() was called, item < size().
    const Outcome& outcome(size_t item) const { return outcomes_.at(item); }

  private:
    compute::Engine& engine_;
    std::vector<compute::BatchItem> items_;
    std::vector<Session*> sessions_;  // of each item
    std::vector<Outcome> outcomes_;
    uint32_t tokens_ = 0;
};

}  // namespace driftwood::session
