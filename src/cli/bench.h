// driftwood bench: how fast this machine computes a model, in the terms of llama-bench, so that the two can be read
// side by side: pp512 is a prompt of 512 tokens in tokens per second, tg128 the generation of 128, each after `depth`
// tokens.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/engine.h"
#include "model/model.h"

namespace driftwood::cli {

// One line of the table: n_prompt or n_gen is 0.
struct BenchCase {
    uint32_t n_prompt = 0;
    uint32_t n_gen = 0;
    uint32_t depth = 0;
    uint32_t n_batch = 0;   // tokens of a prompt in one step
    uint32_t sessions = 1;  // that go through each step together
    uint32_t threads = 1;
};

// "pp512", "tg128 @ d1024 x8"
std::string case_name(const BenchCase& one);

// What one pass over the case moves and multiplies, for all its tokens together.
struct BenchWork {
    double bytes = 0;          // of weights and KV, each step's once
    double multiply_adds = 0;  // of the linear layers
};
BenchWork work_of(const compute::DecoderSpec& spec, const BenchCase& one);

// What the machine gives with so many threads, measured in the same run.
struct BenchPeak {
    double bytes_per_s = 0;          // 0: not known for this engine
    double multiply_adds_per_s = 0;  // likewise
};

struct BenchResult {
    BenchCase one;
    std::vector<double> seconds;  // of each repetition
};

double tokens_of(const BenchCase& one);
double mean(const std::vector<double>& values);
double deviation(const std::vector<double>& values);  // of the sample, 0 for fewer than two

// A model on an engine, for cases of one number of threads.
class BenchRun {
  public:
    static Result<BenchRun> create(const model::Model& model, const std::string& isa, uint32_t threads);

    // Fills `depth` tokens, runs the case once to warm up, then `repetitions` times. kInvalidArgument when the model's
    // context is too short for it.
    Result<BenchResult> run(const BenchCase& one, uint32_t repetitions);

  private:
    BenchRun() = default;
    struct Session {
        std::vector<compute::BlockId> blocks;
        uint32_t length = 0;
    };
    Result<void> fill(const BenchCase& one);
    Result<double> once(const BenchCase& one);
    Result<void> step(uint32_t tokens, bool logits);
    void release();

    const compute::DecoderSpec* spec_ = nullptr;
    std::unique_ptr<compute::Engine> engine_;
    std::vector<Session> sessions_;
    std::vector<std::vector<uint32_t>> tokens_;  // of the step, by session
    std::vector<float> logits_;                  // [sessions, vocab]
    uint32_t next_token_ = 1;
};

// ---- what is printed

enum class BenchFormat { kMarkdown, kCsv, kJson };

struct BenchReport {
    std::string model_file;
    std::string model_type;  // "llama 16x2048 Q8_0"
    uint64_t model_bytes = 0;
    uint64_t parameters = 0;
    std::string engine;
    const compute::DecoderSpec* spec = nullptr;
    model::WeightsPlace weights;
    std::map<uint32_t, BenchPeak> peaks;  // by number of threads
    bool many_sessions = false;           // a column for them
    bool many_batches = false;
};

void print_header(const BenchReport& report, BenchFormat format);
void print_result(const BenchReport& report, BenchFormat format, const BenchResult& result, bool first);
void print_footer(const BenchReport& report, BenchFormat format);

}  // namespace driftwood::cli
