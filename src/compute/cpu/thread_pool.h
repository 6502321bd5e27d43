// ThreadPool: runs many small tasks on the caller's thread and a few helpers. Each thread has a share of neighbouring
// tasks, so that it walks through memory in order, and claims them one at a time; who is done with its own takes from
// the others'. So a core that another process takes away costs its share and no more: whoever has a core takes the
// tasks. Helpers spin for a moment between runs (the runs of a decoder step follow each other within microseconds) and
// then sleep.
//
// Threads: one caller at a time. Tasks of one run may execute in any order on any thread; run() returns when all are
// done, and everything they wrote is visible to the caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace driftwood::compute {

// The cores that this process may use.
uint32_t available_cores();

class ThreadPool {
  public:
    // `threads` counts the caller: 1 means no helpers. `on_start` runs on each helper first and stays in force there
    // (the floating-point environment). Where the system gives fewer threads than that, these do all the work.
    ThreadPool(uint32_t threads, std::function<void()> on_start);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    uint32_t threads() const { return threads_; }

    // Calls task(0) … task(count - 1), each once.
    template <class Task>
    void run(uint32_t count, const Task& task) {
        run_job(count,
                {[](const void* context, uint32_t index) { (*static_cast<const Task*>(context))(index); }, &task});
    }

  private:
    struct Job {
        void (*call)(const void* context, uint32_t index) = nullptr;
        const void* context = nullptr;
    };

    // Of the run in progress: a run number (high half) and how many of the share's tasks are unclaimed (low half).
    // Whoever takes one owns that task; the run cannot end before it is done, so job_ and count_ stay as they are.
    struct alignas(64) Share {
        std::atomic<uint64_t> unclaimed{0};
    };

    void run_job(uint32_t count, Job job);
    void help(uint32_t thread);
    // Claims and runs tasks until none are left, the thread's own share first.
    void work(uint32_t thread);
    void work_on(uint32_t share);
    // Shares are ranges of tasks, one after the other.
    uint32_t share_end(uint32_t thread) const;

    uint32_t threads_;
    std::unique_ptr<Share[]> shares_;  // [threads_]
    Job job_;
    uint32_t count_ = 0;
    uint64_t run_number_ = 0;
    std::atomic<uint32_t> done_{0};

    std::atomic<uint32_t> signal_{0};  // moves on with each run: what sleeping helpers wait for
    std::atomic<bool> stop_{false};
    std::vector<std::thread> helpers_;
};

// A ThreadPool that starts its helpers with its first run: most devices never see work that is worth them.
// Threads: one caller at a time.
class LazyPool {
  public:
    LazyPool(uint32_t threads, std::function<void()> on_start) : threads_(threads), on_start_(std::move(on_start)) {}

    uint32_t threads() const { return threads_; }

    // As ThreadPool's.
    template <class Task>
    void run(uint32_t count, const Task& task) {
        if (pool_ == nullptr) pool_ = std::make_unique<ThreadPool>(threads_, on_start_);
        pool_->run(count, task);
    }

  private:
    uint32_t threads_;
    std::function<void()> on_start_;
    std::unique_ptr<ThreadPool> pool_;
};

}  // namespace driftwood::compute
