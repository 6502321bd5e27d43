// compute_bench [ENGINE]: prints what each engine of this machine (or that one) reaches: decode and prefill of a small
// model, and matrix-vector products of weights too large for any cache, in bytes of weights per second beside a plain
// read of the same bytes.
#include <chrono>
#include <cstdio>
#include <numeric>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "compute/engine.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of five times `body`: other programs on the machine only make it slower.
template <class Body>
double best_seconds(const Body& body) {
    double best = 1e30;
    for (int i = 0; i < 5; ++i) {
        const double begin = seconds_now();
        body();
        best = std::min(best, seconds_now() - begin);
    }
    return best;
}

void bench_model(std::string_view only, const char* title, const TestShape& shape, uint32_t depth, uint32_t steps) {
    const TestModel model = make_test_model(shape, 1);
    size_t bytes = model.spec.output.bytes.size();
    for (const auto& matrix : model.matrices) bytes += matrix.size();
    bytes -= model.spec.embedding.bytes.size() + (shape.tied ? 0 : model.spec.output.bytes.size());
    for (const EngineInfo& info : engines()) {
        if (!info.available || (!only.empty() && info.name != only)) continue;
        for (const uint32_t threads : {1U, 2U}) {
            auto engine = make_engine(info.name, model.spec, {.threads = threads, .kv_blocks = 256}).value();
            std::vector<BlockId> blocks;
            for (uint32_t i = 0; i * kBlockTokens < depth + 512; ++i)
                blocks.push_back(engine->pool().allocate().value());
            std::vector<float> logits(shape.vocab);
            const std::vector<uint32_t> tokens = test_tokens(shape.vocab, depth, 2);
            const double prefill = best_seconds([&] {
                for (uint32_t at = 0; at < depth; at += 256) {
                    BatchItem item{.tokens = std::span(tokens).subspan(at, std::min(256U, depth - at)),
                                   .first_position = at,
                                   .blocks = blocks,
                                   .logits = {},
                                   .error = {}};
                    engine->step({&item, 1});
                }
            });
            const double decode = best_seconds([&] {
                for (uint32_t i = 0; i < steps; ++i) {
                    BatchItem item{.tokens = std::span(tokens).first(1),
                                   .first_position = depth + i,
                                   .blocks = blocks,
                                   .logits = logits,
                                   .error = {}};
                    engine->step({&item, 1});
                }
            });
            std::printf(
                "%-10s %-10s %u thread(s): prefill %8.1f tok/s, decode at %u %8.1f tok/s = %6.2f GB/s of weights\n",
                title, std::string(info.name).c_str(), threads, depth / prefill, depth, steps / decode,
                static_cast<double>(bytes) * steps / decode * 1e-9);
        }
    }
}

// Reads all bytes once: what the memory gives.
double read_gb_per_s(const std::vector<uint64_t>& data, uint32_t threads) {
    ThreadPool pool(threads, [] {});
    constexpr uint32_t kTasks = 64;
    const size_t part = data.size() / kTasks;
    std::vector<uint64_t> sums(kTasks);
    const double seconds = best_seconds([&] {
        pool.run(kTasks, [&](uint32_t i) {
            uint64_t sum[8] = {};
            const uint64_t* at = data.data() + i * part;
            for (size_t j = 0; j + 8 <= part; j += 8) {
                for (size_t k = 0; k < 8; ++k) sum[k] ^= at[j + k];
            }
            sums[i] = std::accumulate(sum, sum + 8, uint64_t{0});
        });
    });
    volatile uint64_t keep = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
    (void)keep;
    return static_cast<double>(data.size()) * 8e-9 / seconds;
}

void bench_all(std::string_view only) {
    bench_model(only, "13 M",
                {.layers = 8,
                 .d_model = 384,
                 .heads = 6,
                 .kv_heads = 2,
                 .head_dim = 64,
                 .d_ff = 1024,
                 .vocab = 4096,
                 .context = 2048,
                 .tied = true},
                128, 64);
    bench_model(only, "300 M",
                {.layers = 4,
                 .d_model = 2048,
                 .heads = 32,
                 .kv_heads = 8,
                 .head_dim = 64,
                 .d_ff = 8192,
                 .vocab = 32000,
                 .context = 4096,
                 .tied = true},
                128, 4);
    const std::vector<uint64_t> data(size_t{512} << 17, 1);
    for (const uint32_t threads : {1U, 2U})
        std::printf("plain read, %u thread(s): %.1f GB/s\n", threads, read_gb_per_s(data, threads));
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) { driftwood::compute::bench_all(argc > 1 ? argv[1] : ""); }
