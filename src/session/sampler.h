// Picks a token from logits (numerics contract, rule 8): the contract's EXP, sums in a fixed order, ties to the lower
// id, random numbers from the counter-based generator, so that a sampler's whole state is (seed, counter).
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace driftwood::session {

struct SamplerParams {
    float temperature = 0.0F;  // 0: greedy
    float top_p = 0.0F;        // 0 or 1: off
    uint32_t top_k = 0;        // 0: off
    uint64_t seed = 0;
};

// kInvalidArgument when a parameter is NaN, negative or beyond its limit.
Result<void> validate(const SamplerParams& params);

// The token for draw number `counter` of this seed. kNotFinite when a logit is NaN. Precondition: logits not empty.
Result<uint32_t> sample(std::span<const float> logits, const SamplerParams& params, uint64_t counter);

}  // namespace driftwood::session
