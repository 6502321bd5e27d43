// One step of an engine for several sessions at once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/engine.h"
#include "session/session.h"

namespace driftwood::session {

struct BatchOutcome {
    uint32_t tokens = 0;         // forwarded for this session; 0 when it had nothing pending or failed
    std::optional<Error> error;  // of this session alone
};

// Plans up to `chunk` tokens of each session, runs one step, commits each; outcomes in the sessions' order. A session
// stands in the span once.
std::vector<BatchOutcome> run_batch(compute::Engine& engine, std::span<Session* const> sessions, uint32_t chunk);

}  // namespace driftwood::session
