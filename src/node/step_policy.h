// Who is in the engine's next step, and with how many tokens: a pure function, so that its bounds can be tested by
// counting steps.
//
// Decodes (a token for each session that wants one) come first, and are never held up by a prompt: those served longest
// ago, up to `decode_tokens`. Prompts share what a step takes beside them, so that a long prompt makes every step a
// little longer instead of one step very long. Among prompts the one with least left goes first, so that short ones
// pass by long ones; those that have waited `patience` steps go before all others, the oldest first, so that none is
// passed by for ever.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace driftwood::node {

struct StepLimits {
    uint32_t decode_tokens = 256;  // of a step
    uint32_t prompt_tokens = 512;  // of a step that has decodes too
    uint32_t prompt_alone = 2048;  // of a step that has none
    uint32_t patience = 16;        // steps; of a prompt that waits for its turn, or for KV blocks
};

// Who wants something computed, in the order in which they began to want it.
struct Candidate {
    uint32_t tokens = 0;   // what its step takes at least (a chunk of each of its sessions); above 0
    uint32_t pending = 0;  // what there is in all; it may take up to that, in one step
    bool decodes = false;  // a token of each session, and no more
    uint64_t waited = 0;   // steps since it was served, or since it began to want
    uint64_t served = 0;   // a number that ascends with every time that somebody is served: its last
};

struct Grant {
    uint32_t candidate = 0;  // its index
    uint32_t tokens = 0;     // at least Candidate::tokens
};

// At least one grant when there is a candidate, decodes first. Within each kind at least the first gets what it needs,
// even if that is more than the limit.
std::vector<Grant> choose_step(const StepLimits& limits, std::span<const Candidate> candidates);

}  // namespace driftwood::node
