#include "session/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "compute/math.h"

namespace driftwood::session {

namespace {

constexpr uint64_t kSamplerStream = 0x53414D50;  // "SAMP": apart from other uses of one seed
constexpr float kWeightOne = 0x1p32F;            // the weight of the best token

using Wide = unsigned __int128;

struct Candidate {
    uint32_t id;
    float logit;
    uint64_t weight;  // of EXP, in units of 2^-32
};

// The better first; ties to the lower id.
bool better(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

// The best token, the first of equals. In lanes, which compilers turn into vectors: a vocabulary is long, and every
// session of a step has one to look through.
Result<uint32_t> greedy(std::span<const float> logits) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr size_t kLanes = 16;
    std::array<float, kLanes> most;
    std::array<uint32_t, kLanes> bad{};
    most.fill(-kInfinity);
    const size_t whole = logits.size() / kLanes * kLanes;
    for (size_t at = 0; at < whole; at += kLanes) {
        const float* const x = logits.data() + at;
        for (size_t lane = 0; lane < kLanes; ++lane) {
            most[lane] = x[lane] > most[lane] ? x[lane] : most[lane];
            bad[lane] |= x[lane] < kInfinity ? 0U : 1U;  // a NaN is less than nothing
        }
    }
    bool finite = std::all_of(bad.begin(), bad.end(), [](uint32_t lane) { return lane == 0; });
    float best = *std::max_element(most.begin(), most.end());
    for (const float x : logits.subspan(whole)) {
        best = x > best ? x : best;
        finite = finite && x < kInfinity;
    }
    if (!finite) {
        const auto found = std::find_if(logits.begin(), logits.end(), [](float x) { return !(x < kInfinity); });
        return error(ErrorCode::kNotFinite, "[session.sample] the logit of token " +
                                                std::to_string(found - logits.begin()) + " is not finite");
    }
    if (std::isinf(best)) return error(ErrorCode::kNotFinite, "[session.sample] no token is allowed");
    return static_cast<uint32_t>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

uint64_t sum_of_weights(std::span<const Candidate> candidates) {
    uint64_t sum = 0;  // at most 2^24 tokens of 2^32 each
    for (const Candidate& candidate : candidates) sum += candidate.weight;
    return sum;
}

// The best tokens whose weights first reach top_p of all.
size_t nucleus(std::span<const Candidate> best_first, float top_p) {
    const auto share = static_cast<uint64_t>(double{top_p} * 0x1p32);  // exact: a float has 24 bits
    const auto enough = static_cast<uint64_t>(Wide{sum_of_weights(best_first)} * share >> 32);
    uint64_t reached = 0;
    for (size_t i = 0; i < best_first.size(); ++i) {
        reached += best_first[i].weight;
        if (reached >= enough) return i + 1;
    }
    return best_first.size();
}

}  // namespace

Result<void> validate(const SamplerParams& params) {
    const auto bad = [](const std::string& problem) {
        return error(ErrorCode::kInvalidArgument, "[session.sampler] " + problem);
    };
    const float t = params.temperature;
    if (!(t == 0.0F || (t >= kMinTemperature && t <= kMaxTemperature))) {
        return bad("temperature: want 0 (greedy) or 1/1024 to 1000, got " + std::to_string(t));
    }
    if (!(params.top_p >= 0.0F && params.top_p <= 1.0F)) {
        return bad("top_p: want 0 to 1, got " + std::to_string(params.top_p));
    }
    return {};
}

Result<uint32_t> sample(std::span<const float> logits, const SamplerParams& params, uint64_t counter) {
    CHECK(!logits.empty());
    DW_ASSIGN(const uint32_t best, greedy(logits));
    if (params.temperature == 0.0F || params.top_k == 1) return best;

    std::vector<Candidate> kept;  // in order of ids
    for (uint32_t id = 0; id < logits.size(); ++id) {
        const float p = compute::exp_f32((logits[id] - logits[best]) / params.temperature);
        const auto weight = static_cast<uint64_t>(p * kWeightOne);
        if (weight > 0) kept.push_back({id, logits[id], weight});
    }
    const bool top_k = params.top_k > 0 && params.top_k < kept.size();
    const bool top_p = params.top_p > 0.0F && params.top_p < 1.0F;
    if (top_k) {
        std::nth_element(kept.begin(), kept.begin() + params.top_k, kept.end(), better);
        kept.resize(params.top_k);
    }
    if (top_p) {
        std::sort(kept.begin(), kept.end(), better);
        kept.resize(nucleus(kept, params.top_p));
    }
    if (top_k || top_p) {
        std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    }
    const auto words = philox(params.seed, counter, kSamplerStream);
    const uint64_t random = uint64_t{words[1]} << 32 | words[0];
    auto left = static_cast<uint64_t>(Wide{random} * sum_of_weights(kept) >> 64);  // uniform below the sum
    for (const Candidate& candidate : kept) {
        if (left < candidate.weight) return candidate.id;
        left -= candidate.weight;
    }
    check_failed("a draw below the sum of the weights found no token");
}

}  // namespace driftwood::session
