// driftwood load: many conversations at once on one node, that come and go by a seed. Who comes when is counted in
// steps of the engine, so that a seed makes the same crowd on a slow machine and on a fast one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/talk_options.h"
#include "node/node.h"
#include "node/step_policy.h"

namespace driftwood::cli {

struct Span {
    uint32_t first = 1;
    uint32_t last = 1;  // inclusive
};

struct LoadOptions {
    node::NodeOptions node;
    ParkOptions park;
    bool sessions = false;  // conversations without actors
    uint32_t present = 16;  // at once, at most
    uint32_t total = 32;
    uint32_t gap = 1;     // steps between two arrivals, on average
    uint32_t pause = 0;   // rounds between an answer and the next message, on average
    uint32_t system = 0;  // tokens, about, of a system message that all conversations begin with; 0: none
    Span messages{1, 2};
    Span prompt{16, 128};  // tokens of a message, about
    Span answer{16, 64};   // tokens, at most
    uint64_t seed = 1;
    float temperature = 0;
    std::optional<uint32_t> decode_tokens, prompt_tokens;  // of a step; nullopt: what the engine wants
};

// What one conversation will be.
struct LoadPlan {
    uint64_t arrives = 0;  // step
    uint64_t seed = 0;
    uint32_t answer = 0;
    std::vector<uint32_t> prompts;  // tokens of each message
    std::vector<uint32_t> pauses;   // rounds before each
};
std::vector<LoadPlan> plan_load(const LoadOptions& options);
// Text of about so many tokens.
std::string load_text(const model::Model& model, uint32_t tokens, uint64_t seed);

struct LoadReport {
    std::string model;
    std::string engine;
    node::StepLimits limits;
    double seconds = 0;
    double forward_s = 0, samples_s = 0, turns_s = 0;  // of it, in the engine's steps, samples and turns
    uint64_t steps = 0;
    uint64_t decode_tokens = 0, prompt_tokens = 0;  // computed
    uint64_t reused_tokens = 0;                     // of prompts that another conversation had computed
    uint64_t sampled = 0;
    uint32_t most_blocks = 0;  // of KV, that conversations held
    uint64_t block_bytes = 0;
    uint64_t most_bytes = 0;           // of guests' memory and KV, at the end of a round; actors only
    uint64_t parked = 0, fetched = 0;  // times
    uint32_t most_present = 0;
    double mean_decodes = 0;  // in a step that had some
    uint64_t waits_for_blocks = 0;
    // Of every conversation's tokens and last logits, in the order of arrival: the same for every engine and whoever
    // was present with whom.
    std::string digest;
    uint64_t failed = 0;                 // answers
    std::string first_failure;           // of these; why
    std::vector<double> first_token_ms;  // from the message to the answer's first token, of each answer
    std::vector<double> first_reply_ms;  // … to the first bytes that the actor replied; actors only
    std::vector<double> token_ms;        // from one token of an answer to the next
    std::vector<double> share;           // tokens per step of the engine while it answered, of each conversation
    std::vector<double> mean_token_ms;   // of each conversation
};

Result<LoadReport> run_load(const LoadOptions& options);
void print_load(const LoadOptions& options, const LoadReport& report, Format format);

// From an image to the first token of an answer, on a node that runs.
struct WakeOptions {
    node::NodeOptions node;
    uint32_t tokens = 4096;
    uint32_t repetitions = 5;
};
struct WakeReport {
    std::string model, engine;
    uint64_t image_bytes = 0;
    uint32_t tokens = 0;
    uint32_t message_tokens = 0;  // that were computed for the first token
    struct Times {
        double open_ms = 0, verify_ms = 0, module_ms = 0, map_ms = 0;
        double turns_ms = 0;  // the message's way to the model
        double step_ms = 0;   // KV verified, taken to the device, the message computed
        double sample_ms = 0;
        double total_ms = 0;
        double again_ms = 0;  // the same step for a second message: with nothing to verify or to take anywhere
    };
    std::vector<Times> runs;
};
Result<WakeReport> run_wake(const WakeOptions& options);
void print_wake(const WakeReport& report, Format format);

}  // namespace driftwood::cli
