#include "compute/cpu/thread_pool.h"

#include <algorithm>
#include <system_error>

#if defined(__linux__)
#include <sched.h>
#endif

namespace driftwood::compute {

namespace {

// About 20 to 50 microseconds: longer than the gap between two runs of a step, shorter than anyone would miss.
constexpr int kSpins = 1000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

uint32_t available_cores() {
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1U, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(uint32_t threads, std::function<void()> on_start)
    : threads_(std::max(1U, threads)), shares_(std::make_unique<Share[]>(threads_)) {
    for (uint32_t i = 1; i < threads_; ++i) {
        try {
            helpers_.emplace_back([this, on_start, i] {
                on_start();
                help(i);
            });
        } catch (const std::system_error&) {
            break;  // the system has no more threads; the others take the tasks of those that are missing
        }
    }
}

ThreadPool::~ThreadPool() {
    stop_.store(true);
    signal_.fetch_add(1);
    signal_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run_job(uint32_t count, Job job) {
    if (count == 0) return;
    if (helpers_.empty() || count == 1) {
        for (uint32_t i = 0; i < count; ++i) job.call(job.context, i);
        return;
    }
    job_ = job;
    count_ = count;
    done_.store(0, std::memory_order_relaxed);
    ++run_number_;
    for (uint32_t i = 0; i < threads(); ++i) {
        const uint64_t tasks = share_end(i) - (i == 0 ? 0 : share_end(i - 1));
        shares_[i].unclaimed.store(run_number_ << 32 | tasks, std::memory_order_release);
    }
    signal_.fetch_add(1, std::memory_order_release);
    signal_.notify_all();
    work(0);
    for (int spin = 0; spin < kSpins; ++spin) {
        if (done_.load(std::memory_order_acquire) == count) return;
        pause();
    }
    for (uint32_t done = done_.load(std::memory_order_acquire); done != count;
         done = done_.load(std::memory_order_acquire)) {
        done_.wait(done, std::memory_order_acquire);
    }
}

uint32_t ThreadPool::share_end(uint32_t thread) const {
    return static_cast<uint32_t>(uint64_t{count_} * (thread + 1) / threads());
}

void ThreadPool::work(uint32_t thread) {
    for (uint32_t i = 0; i < threads(); ++i) work_on((thread + i) % threads());
}

void ThreadPool::work_on(uint32_t share) {
    std::atomic<uint64_t>& unclaimed = shares_[share].unclaimed;
    uint64_t seen = unclaimed.load(std::memory_order_acquire);
    while ((seen & 0xFFFFFFFFU) != 0) {
        if (!unclaimed.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
            continue;
        }
        const uint32_t count = count_;
        job_.call(job_.context, share_end(share) - static_cast<uint32_t>(seen & 0xFFFFFFFFU));
        if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) done_.notify_one();
        seen = unclaimed.load(std::memory_order_acquire);
    }
}

void ThreadPool::help(uint32_t thread) {
    uint32_t seen = signal_.load(std::memory_order_acquire);
    while (!stop_.load()) {
        work(thread);
        for (int spin = 0; spin < kSpins && signal_.load(std::memory_order_acquire) == seen; ++spin) pause();
        signal_.wait(seen, std::memory_order_acquire);
        seen = signal_.load(std::memory_order_acquire);
    }
}

}  // namespace driftwood::compute
