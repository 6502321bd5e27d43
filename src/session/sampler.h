// Picks a token from logits (docs/numerics.md, "Sampling"): the contract's EXP, weights as integers whose sums are
// exact, ties to the lower id, random numbers from the counter-based generator. So a sampler's whole state is (seed,
// counter), and every device and order of summation picks the same token.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace driftwood::session {

inline constexpr float kMinTemperature = 0x1p-10F;  // what is colder is greedy, and says so with 0
inline constexpr float kMaxTemperature = 1000.0F;

struct SamplerParams {
    float temperature = 0.0F;  // 0: greedy; else kMinTemperature to kMaxTemperature
    float top_p = 0.0F;        // 0 or 1: off
    uint32_t top_k = 0;        // 0: off
    uint64_t seed = 0;
};

// kInvalidArgument when a parameter is NaN, negative or beyond its limit.
Result<void> validate(const SamplerParams& params);

// The token for draw number `counter` of this seed. A logit of -infinity is never picked. kNotFinite when a logit is
// NaN or +infinity, or all are -infinity. Preconditions: logits not empty, params valid. Pure, any thread.
Result<uint32_t> sample(std::span<const float> logits, const SamplerParams& params, uint64_t counter);

}  // namespace driftwood::session
