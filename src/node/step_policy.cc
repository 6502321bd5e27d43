#include "node/step_policy.h"

#include <algorithm>
#include <tuple>

namespace driftwood::node {

namespace {

std::vector<uint32_t> indices_of(std::span<const Candidate> candidates, bool decodes) {
    std::vector<uint32_t> found;
    for (uint32_t i = 0; i < candidates.size(); ++i) {
        if (candidates[i].decodes == decodes) found.push_back(i);
    }
    return found;
}

}  // namespace

std::vector<Grant> choose_step(const StepLimits& limits, std::span<const Candidate> candidates) {
    std::vector<Grant> grants;
    uint32_t used = 0;
    // Whether a candidate gets what it needs at least, and as much more as there is.
    const auto grant = [&](uint32_t index, uint32_t limit) {
        const Candidate& candidate = candidates[index];
        const uint32_t left = limit - std::min(limit, used);
        if (candidate.tokens > left && used > 0) return;
        const uint32_t tokens = std::max(candidate.tokens, std::min(candidate.pending, left));
        grants.push_back({index, tokens});
        used += tokens;
    };

    std::vector<uint32_t> decodes = indices_of(candidates, true);
    std::stable_sort(decodes.begin(), decodes.end(),
                     [&](uint32_t a, uint32_t b) { return candidates[a].served < candidates[b].served; });
    for (const uint32_t index : decodes) grant(index, limits.decode_tokens);

    const uint32_t prompt_limit = grants.empty() ? limits.prompt_alone : limits.prompt_tokens;
    used = 0;
    std::vector<uint32_t> prompts = indices_of(candidates, false);
    const auto rank = [&](uint32_t index) {
        const Candidate& candidate = candidates[index];
        const bool overdue = candidate.waited >= limits.patience;
        return std::tuple(!overdue, overdue ? 0 : candidate.pending);
    };
    std::stable_sort(prompts.begin(), prompts.end(), [&](uint32_t a, uint32_t b) { return rank(a) < rank(b); });
    for (const uint32_t index : prompts) grant(index, prompt_limit);
    return grants;
}

}  // namespace driftwood::node
