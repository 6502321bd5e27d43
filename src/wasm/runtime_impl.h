// The engine behind a Runtime, and the clock of its guests: a thread that advances Wasmtime's epoch every `epoch_ms`
// while at least one guest runs, and sleeps otherwise. For this folder only.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "file/private_cache.h"
#include "wasm/handles.h"
#include "wasm/instance.h"

namespace driftwood::wasm {

// Advances an engine's epoch. Threads: enter and leave from any.
class EpochTicker {
  public:
    EpochTicker(const wasm_engine_t* engine, uint32_t epoch_ms);
    ~EpochTicker();
    EpochTicker(const EpochTicker&) = delete;
    EpochTicker& operator=(const EpochTicker&) = delete;

    // Between enter() and leave() at least one epoch passes every `epoch_ms`, on average.
    void enter();
    void leave() { running_.fetch_sub(1); }

    // The number of epochs after which at least `ms` have passed.
    uint64_t epochs_for(uint32_t ms) const;

  private:
    void loop();

    const wasm_engine_t* engine_;
    const std::chrono::milliseconds period_;
    std::atomic<uint32_t> running_{0};
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stop_ = false;
    std::thread thread_;
};

class RuntimeImpl final : public Runtime {
  public:
    RuntimeImpl(EnginePtr engine, const RuntimeOptions& options);

    wasm_engine_t* engine() const { return engine_.get(); }
    EpochTicker& ticker() { return ticker_; }
    // Every host call, defined; modules are linked against it.
    Result<void> define_host_calls();
    const wasmtime_linker_t* linker() const { return linker_.get(); }
    bool counts_fuel() const { return counts_fuel_; }
    const file::PrivateCache* cache() const { return cache_ ? &*cache_ : nullptr; }
    const std::string& cache_problem() const { return cache_problem_; }

  private:
    EnginePtr engine_;
    LinkerPtr linker_;
    EpochTicker ticker_;
    const bool counts_fuel_;
    std::optional<file::PrivateCache> cache_;
    std::string cache_problem_;
};

// What an image's memory depends on beside the module: guests compute the same bits under the same settings only.
inline constexpr std::string_view kDeterminismSettings = "nan-canonical relaxed-simd-off";

}  // namespace driftwood::wasm
