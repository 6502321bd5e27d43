#include "compute/cpu/peak.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "compute/cpu/thread_pool.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#endif

namespace driftwood::compute {

namespace {

constexpr int kTries = 8;
constexpr size_t kReadBytes = size_t{512} << 20;
constexpr size_t kLineWords = 8;
constexpr uint64_t kRounds = 400000;  // about a millisecond

template <class Body>
double best_seconds(const Body& body) {
    double best = 1e30;
    for (int i = 0; i < kTries; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        body();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return best;
}

// One word of every cache line: the memory moves whole lines.
uint64_t read_lines(const uint64_t* at, size_t words) {
    uint64_t sum[4] = {};
    for (size_t i = 0; i + 4 * kLineWords <= words; i += 4 * kLineWords) {
        for (size_t k = 0; k < 4; ++k) sum[k] ^= at[i + k * kLineWords];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

// Does some multiply-adds in registers and says how many.
using Multiply = uint64_t (*)(uint64_t rounds);

Multiply multiply_of([[maybe_unused]] std::string_view engine) {
#if defined(DRIFTWOOD_X86)
    if (engine == "avx512") return avx512::multiply_adds;
    if (engine == "avx2") return avx2::multiply_adds;
#endif
    return nullptr;
}

}  // namespace

double measure_read_bandwidth(uint32_t threads) {
    const std::vector<uint64_t> data(kReadBytes / sizeof(uint64_t), 1);
    ThreadPool pool(threads, [] {});
    constexpr uint32_t kTasks = 256;
    const size_t part = data.size() / kTasks;
    std::vector<uint64_t> sums(kTasks);
    const double seconds = best_seconds(
        [&] { pool.run(kTasks, [&](uint32_t i) { sums[i] = read_lines(data.data() + i * part, part); }); });
    // Whoever reads this keeps the loads from being left out.
    const volatile uint64_t keep = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
    static_cast<void>(keep);
    return static_cast<double>(kReadBytes) / seconds;
}

double measure_multiply_adds(std::string_view engine, uint32_t threads) {
    const Multiply multiply = multiply_of(engine);
    if (multiply == nullptr) return 0;
    ThreadPool pool(threads, [] {});
    std::vector<uint64_t> done(threads);
    const double seconds = best_seconds([&] { pool.run(threads, [&](uint32_t i) { done[i] = multiply(kRounds); }); });
    return static_cast<double>(std::accumulate(done.begin(), done.end(), uint64_t{0})) / seconds;
}

}  // namespace driftwood::compute
