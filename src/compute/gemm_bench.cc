// gemm_bench [SIZE ...]: the matrix product of the "cpu" device, f32, beside the machine's peak of fused multiply-adds
// (independent chains in registers, no memory), in GFLOP/s and as a share. Peak and product take turns, so that both
// see the same clock and the same neighbours. One thread is timed by its own CPU time, which a busy machine does not
// stretch; several threads by the clock on the wall.
//
// A round is a run of the peak, a pause in which all helpers fall asleep, one product that has to wake them, and then
// products one after the other. Prints the best of each, and as the median of all rounds the share of the peak that
// products after each other reach, and the one after the pause.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

#include "compute/cpu/thread_pool.h"
#include "compute/device.h"
#include "compute/test_spec.h"

#if defined(DRIFTWOOD_X86)
#include <immintrin.h>

#include "compute/cpu/features.h"
#endif

namespace driftwood::compute {
namespace {

constexpr int kRounds = 15;
constexpr uint64_t kPeakSteps = 500'000;
constexpr double kRoundSeconds = 0.01;  // of products after each other, at least
constexpr auto kPause = std::chrono::milliseconds(1);

enum class Clock { kWall, kThread };

double seconds(Clock clock) {
    if (clock == Clock::kWall) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

#if defined(DRIFTWOOD_X86)

// 16 chains hide the latency of two units, which 4 cycles of 2 would need 8 for. The empty asm keeps the chains in
// registers and in the program.
__attribute__((target("avx512f"))) void fma_avx512(uint64_t steps) {
    __m512 x[16];
#pragma GCC unroll 16
    for (auto& value : x) value = _mm512_set1_ps(1.0F);
    const __m512 factor = _mm512_set1_ps(0.5F);
    for (uint64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 16
        for (auto& value : x) {
            value = _mm512_fmadd_ps(value, factor, factor);
            asm volatile("" : "+v"(value));
        }
    }
}

__attribute__((target("avx2,fma"))) void fma_avx2(uint64_t steps) {
    __m256 x[12];
#pragma GCC unroll 12
    for (auto& value : x) value = _mm256_set1_ps(1.0F);
    const __m256 factor = _mm256_set1_ps(0.5F);
    for (uint64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
        for (auto& value : x) {
            value = _mm256_fmadd_ps(value, factor, factor);
            asm volatile("" : "+x"(value));
        }
    }
}

void fma_flops(uint64_t steps) { cpu_has_avx512() ? fma_avx512(steps) : fma_avx2(steps); }
double flops_of(uint64_t steps) { return static_cast<double>(steps) * (cpu_has_avx512() ? 16 * 16 * 2 : 12 * 8 * 2); }
bool has_peak() { return cpu_has_avx512() || cpu_has_avx2(); }

#else
void fma_flops(uint64_t) {}
double flops_of(uint64_t) { return 0.0; }
bool has_peak() { return false; }
#endif

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
    return values[kRounds / 2];
}

void bench(uint32_t size, uint32_t threads) {
    const uint64_t bytes = uint64_t{size} * size * sizeof(float);
    auto region = memory::Region::reserve(3 * bytes).value();
    region.grow(3 * bytes).value();
    TestRandom random(1);
    for (uint64_t i = 0; i < 2 * bytes; i += sizeof(float)) {
        *reinterpret_cast<float*>(region.base() + i) = random.uniform();
    }
    Gemm gemm{.a_offset = 0, .b_offset = bytes, .c_offset = 2 * bytes, .m = size, .n = size, .k = size};
    gemm.lda = gemm.ldb = gemm.ldc = size;
    const auto device = make_device("cpu", threads).value();
    ThreadPool pool(threads, [] {});
    const Clock clock = threads == 1 ? Clock::kThread : Clock::kWall;
    // Several tasks per thread: a core that another program takes for a moment leaves its share to the others.
    const uint32_t tasks = threads == 1 ? 1 : 4 * threads;
    const double gemm_flops = 2.0 * size * size * size;
    std::vector<double> peaks, speeds, shares, first_shares;
    device->gemm(region, gemm).value();
    for (int round = 0; round < kRounds; ++round) {
        double begin = seconds(clock);
        pool.run(tasks, [&](uint32_t) { fma_flops(kPeakSteps); });
        peaks.push_back(tasks * flops_of(kPeakSteps) / (seconds(clock) - begin) * 1e-9);
        std::this_thread::sleep_for(kPause);
        begin = seconds(clock);
        device->gemm(region, gemm).value();
        first_shares.push_back(gemm_flops / (seconds(clock) - begin) * 1e-9 / peaks.back());
        begin = seconds(clock);
        double took = 0, products = 0;
        while (took < kRoundSeconds) {
            device->gemm(region, gemm).value();
            ++products;
            took = seconds(clock) - begin;
        }
        speeds.push_back(products * gemm_flops / took * 1e-9);
        shares.push_back(speeds.back() / peaks.back());
    }
    const double best_peak = *std::max_element(peaks.begin(), peaks.end());
    const double best_speed = *std::max_element(speeds.begin(), speeds.end());
    std::printf(
        "%5u, %2u thread(s): peak %7.1f, product %7.1f GFLOP/s, %2.0f %%; median share %2.0f %%, after a pause %2.0f "
        "%%\n",
        size, threads, best_peak, best_speed, 100 * best_speed / best_peak, 100 * median(shares),
        100 * median(first_shares));
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    using namespace driftwood::compute;
    if (!has_peak()) {
        std::puts("this processor has neither AVX-512 nor AVX2");
        return 0;
    }
    std::vector<uint32_t> sizes;
    for (int i = 1; i < argc; ++i) sizes.push_back(static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)));
    if (sizes.empty()) sizes = {128, 256, 512, 1024, 2048};
    const uint32_t cores = available_cores();
    for (const uint32_t size : sizes) {
        bench(size, 1);
        if (cores > 1) bench(size, cores);
    }
}
