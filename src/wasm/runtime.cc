#include <algorithm>

#include "wasm/host_calls.h"
#include "wasm/limits.h"
#include "wasm/linear_memory.h"
#include "wasm/runtime_impl.h"

namespace driftwood::wasm {
namespace {

constexpr uint32_t kMaxEpochMs = 1000;

// Owned by the engine that is made from it.
wasm_config_t* make_config(const RuntimeOptions& options) {
    wasm_config_t* config = wasm_config_new();
    wasmtime_config_strategy_set(config, WASMTIME_STRATEGY_CRANELIFT);
    wasmtime_config_cranelift_opt_level_set(config, WASMTIME_OPT_LEVEL_SPEED);
    wasmtime_config_parallel_compilation_set(config, true);
    wasmtime_config_native_unwind_info_set(config, true);

    // kDeterminismSettings
    wasmtime_config_cranelift_nan_canonicalization_set(config, true);
    wasmtime_config_wasm_relaxed_simd_set(config, false);

    // Memory is a Region that never moves; an access outside it faults, and the fault is the trap.
    use_regions(config);
    wasmtime_config_signals_based_traps_set(config, true);
    wasmtime_config_memory_init_cow_set(config, false);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_reservation_set(config, kMemoryReservationBytes);
    wasmtime_config_memory_guard_size_set(config, kMemoryGuardBytes);

    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_consume_fuel_set(config, options.fuel);
    wasmtime_config_max_wasm_stack_set(config, kGuestStackBytes);

    // What a snapshot can hold, and nothing else. (Garbage collection, exceptions and threads are not compiled in.)
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_bulk_memory_set(config, true);
    wasmtime_config_wasm_multi_value_set(config, true);
    wasmtime_config_wasm_tail_call_set(config, true);
    wasmtime_config_gc_support_set(config, false);
    wasmtime_config_shared_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, false);
    wasmtime_config_wasm_stack_switching_set(config, false);
    return config;
}

}  // namespace

EpochTicker::EpochTicker(const wasm_engine_t* engine, uint32_t epoch_ms)
    : engine_(engine), period_(epoch_ms), thread_([this] { loop(); }) {}

EpochTicker::~EpochTicker() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void EpochTicker::enter() {
    // Either this load sees that the ticker sleeps, or the ticker's check of running_ sees this guest: both are
    // sequentially consistent, and each side writes before it reads.
    running_.fetch_add(1);
    if (!asleep_.load()) return;
    const std::lock_guard lock(mutex_);
    wake_.notify_one();
}

uint64_t EpochTicker::epochs_for(uint32_t ms) const {
    const auto period = static_cast<uint32_t>(period_.count());
    return uint64_t{ms} / period + (ms % period != 0) + 1;  // the first epoch may end at once
}

void EpochTicker::loop() {
    using Clock = std::chrono::steady_clock;
    std::unique_lock lock(mutex_);
    auto next = Clock::now() + period_;
    while (!stop_) {
        if (running_.load() == 0) {
            asleep_.store(true);
            wake_.wait(lock, [this] { return stop_ || running_.load() != 0; });
            asleep_.store(false);
            next = Clock::now() + period_;
            continue;
        }
        wake_.wait_until(lock, next, [this] { return stop_; });
        // A late wake-up catches up, so that a deadline does not stretch with the load of the machine.
        for (const auto now = Clock::now(); next <= now; next += period_) wasmtime_engine_increment_epoch(engine_);
    }
}

RuntimeImpl::RuntimeImpl(EnginePtr engine, const RuntimeOptions& options)
    : engine_(std::move(engine)), ticker_(engine_.get(), options.epoch_ms), counts_fuel_(options.fuel) {
    if (options.module_cache.empty()) return;
    auto cache = file::PrivateCache::open(options.module_cache, kModuleCacheBytes);
    if (cache.ok()) {
        cache_.emplace(*std::move(cache));
    } else {
        cache_problem_ = cache.error().message;
    }
}

Result<void> RuntimeImpl::define_host_calls() {
    linker_.reset(wasmtime_linker_new(engine_.get()));
    for (const HostCall& call : host_calls()) {
        const FuncTypePtr type = function_type(call);
        const ErrorPtr failure(wasmtime_linker_define_func_unchecked(
            linker_.get(), call.module.data(), call.module.size(), call.name.data(), call.name.size(), type.get(),
            call.callback, nullptr, nullptr));
        if (failure) return error(ErrorCode::kInternal, "[wasm.runtime] " + message_of(failure.get()));
    }
    return {};
}

Result<std::unique_ptr<Runtime>> Runtime::create(const RuntimeOptions& options) {
    if (options.epoch_ms == 0 || options.epoch_ms > kMaxEpochMs) {
        return error(ErrorCode::kInvalidArgument, "[wasm.runtime] epoch_ms: want 1 to " + std::to_string(kMaxEpochMs) +
                                                      ", got " + std::to_string(options.epoch_ms));
    }
    EnginePtr engine(wasm_engine_new_with_config(make_config(options)));
    if (!engine) return error(ErrorCode::kInternal, "[wasm.runtime] Wasmtime refused its configuration");
    auto runtime = std::make_unique<RuntimeImpl>(std::move(engine), options);
    DW_TRY(runtime->define_host_calls());
    return Result<std::unique_ptr<Runtime>>(std::move(runtime));
}

}  // namespace driftwood::wasm
