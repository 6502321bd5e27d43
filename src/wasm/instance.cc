#include <algorithm>

#include "base/fp_environment.h"
#include "wasm/instance_impl.h"
#include "wasm/limits.h"
#include "wasm/trap.h"

namespace driftwood::wasm {
namespace {

// A turn's time: guests look at the epoch, which the ticker advances while any of them runs.
class TurnClock {
  public:
    TurnClock(EpochTicker& ticker, wasmtime_context_t* context, uint32_t deadline_ms) : ticker_(ticker) {
        ticker_.enter();
        wasmtime_context_set_epoch_deadline(context, ticker_.epochs_for(deadline_ms));
    }
    ~TurnClock() { ticker_.leave(); }
    TurnClock(const TurnClock&) = delete;
    TurnClock& operator=(const TurnClock&) = delete;

  private:
    EpochTicker& ticker_;
};

Result<void> check_limits(const ModuleImpl& module, const InstanceLimits& limits) {
    const uint64_t want = module.layout().memory_min_pages * kWasmPageBytes;
    if (want > limits.memory_bytes) {
        return error(ErrorCode::kLimit, "[wasm.instance] memory: the module begins with " + std::to_string(want) +
                                            " bytes, the limit is " + std::to_string(limits.memory_bytes));
    }
    if (limits.turn_fuel != 0 && !module.runtime().counts_fuel()) {
        return error(ErrorCode::kInvalidArgument,
                     "[wasm.instance] turn_fuel: the runtime counts no fuel (RuntimeOptions::fuel)");
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<Instance>> Instance::create(const Module& module, GuestHost& host, const InstanceLimits& limits,
                                                   WasiOptions wasi) {
    WasiState state;
    state.args = std::move(wasi.args);
    state.environment = std::move(wasi.environment);
    DW_TRY(state.check());
    DW_ASSIGN(auto self, InstanceImpl::make(static_cast<const ModuleImpl&>(module), host, limits));
    DW_TRY(self->be_born(std::move(state)));
    return Result<std::unique_ptr<Instance>>(std::move(self));
}

Result<std::unique_ptr<Instance>> Instance::restore(const Module& module, GuestHost& host, const InstanceLimits& limits,
                                                    const file::SectionReader& image, file::Decoder& state) {
    DW_ASSIGN(auto self, InstanceImpl::make(static_cast<const ModuleImpl&>(module), host, limits));
    DW_TRY(self->load(image, state));
    return Result<std::unique_ptr<Instance>>(std::move(self));
}

InstanceImpl::InstanceImpl(const ModuleImpl& module, GuestHost& host, const InstanceLimits& limits,
                           memory::Region memory)
    : module_(module),
      limits_(limits),
      memory_{.region = std::move(memory), .failure = std::nullopt},
      guest_{.host = host,
             .memory = memory_.region,
             .wasi = {},
             .in_birth = false,
             .exit_code = std::nullopt,
             .failure = std::nullopt},
      store_(wasmtime_store_new(module.runtime().engine(), &guest_, nullptr)),
      context_(wasmtime_store_context(store_.get())) {}

Result<std::unique_ptr<InstanceImpl>> InstanceImpl::make(const ModuleImpl& module, GuestHost& host,
                                                         const InstanceLimits& limits) {
    DW_TRY(check_limits(module, limits));
    DW_ASSIGN(auto memory, memory::Region::reserve(kMemoryReservationBytes, kMemoryGuardBytes));
    std::unique_ptr<InstanceImpl> self(new InstanceImpl(module, host, limits, std::move(memory)));
    DW_TRY(self->instantiate());
    DW_TRY(self->find_exports());
    return Result<std::unique_ptr<InstanceImpl>>(std::move(self));
}

Result<void> InstanceImpl::instantiate() {
    const auto memory_bytes = static_cast<int64_t>(std::min(limits_.memory_bytes, kMemoryReservationBytes));
    const auto tables = static_cast<int64_t>(module_.layout().tables.size());
    wasmtime_store_limiter(store_.get(), memory_bytes, limits_.table_elements, /*instances=*/1, tables, /*memories=*/1);
    wasm_trap_t* trapped = nullptr;
    const LinearMemoryScope scope(memory_);
    const ErrorPtr failure(wasmtime_instance_pre_instantiate(module_.instance_pre(), context_, &instance_, &trapped));
    const TrapPtr trap(trapped);
    if (failure) return error(ErrorCode::kLimit, "[wasm.instance] " + message_of(failure.get()));
    if (trap) return end_by("[wasm.instance]", trap.get());
    return {};
}

Result<void> InstanceImpl::find_exports() {
    wasm_memory_ = state_export(kMemoryExport, WASMTIME_EXTERN_MEMORY).of.memory;
    const uint8_t* base = wasmtime_memory_data(context_, &wasm_memory_);
    const size_t size = wasmtime_memory_data_size(context_, &wasm_memory_);
    if (base != memory_.region.base() || size != memory_.region.size()) {
        return error(ErrorCode::kInternal, "[wasm.instance] linear memory is not the region made for it");
    }
    // Module::compile has checked that they are there and what they take.
    start_ = state_export("driftwood_start", WASMTIME_EXTERN_FUNC).of.func;
    complete_ = state_export("driftwood_complete", WASMTIME_EXTERN_FUNC).of.func;
    return {};
}

std::optional<wasmtime_extern_t> InstanceImpl::find_export(const std::string& name) const {
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(context_, &instance_, name.data(), name.size(), &item)) return std::nullopt;
    return item;
}

// An export that the rewriter made, or that compile() required.
wasmtime_extern_t InstanceImpl::state_export(const std::string& name, wasmtime_extern_kind_t kind) const {
    const auto item = find_export(name);
    CHECK(item.has_value() && item->kind == kind);
    return *item;
}

Result<void> InstanceImpl::be_born(WasiState wasi) {
    guest_.wasi = std::move(wasi);
    DW_TRY(module_.map_birth(memory_.region));
    guest_.in_birth = true;
    if (module_.layout().has_start) DW_TRY(run_export(kStartExport));
    if (!guest_.exit_code && module_.exports_function("_initialize")) DW_TRY(run_export("_initialize"));
    guest_.in_birth = false;
    return {};
}

Result<void> InstanceImpl::complete(int64_t op, int64_t status) {
    const int64_t arguments[] = {op, status};
    return run(complete_, "driftwood_complete", arguments, std::size(arguments));
}

Result<void> InstanceImpl::call(std::string_view export_name) {
    if (!module_.exports_function(export_name)) {
        return error(ErrorCode::kNotFound,
                     "[wasm.call] " + std::string(export_name) + ": the module has no such export of type () -> ()");
    }
    return run_export(std::string(export_name));
}

Result<void> InstanceImpl::run_export(const std::string& name) {
    return run(state_export(name, WASMTIME_EXTERN_FUNC).of.func, name, nullptr, 0);
}

Result<void> InstanceImpl::run(const wasmtime_func_t& function, std::string_view name, const int64_t* arguments,
                               size_t count) {
    CHECK(!running_);
    const std::string what = "[wasm.turn] " + std::string(name);
    if (dead_) return *dead_;
    DW_TRY(check_intact(what));  // a device or a freeze may have found out
    if (guest_.exit_code) {
        return error(ErrorCode::kInvalidArgument,
                     what + ": the guest has stopped with exit code " + std::to_string(*guest_.exit_code));
    }
    wasmtime_val_raw_t values[2] = {};
    CHECK(count <= std::size(values));
    for (size_t i = 0; i < count; i++) values[i].i64 = arguments[i];

    wasm_trap_t* trapped = nullptr;
    ErrorPtr failure;
    {
        const FpEnvironment environment;
        const TurnClock clock(module_.runtime().ticker(), context_, limits_.turn_deadline_ms);
        set_fuel();
        running_ = true;
        failure.reset(wasmtime_func_call_unchecked(context_, &function, values, std::size(values), &trapped));
        running_ = false;
        take_fuel();
    }
    const TrapPtr trap(trapped);
    DW_TRY(check_intact(what));  // before anything else: what the guest did may come of zeros that it read
    if (memory_.failure) {
        // The guest saw its memory refuse to grow below its limit, which must not happen: the turn did not happen.
        dead_ = error(memory_.failure->code, what + ": " + memory_.failure->message);
        return *dead_;
    }
    if (!failure && !trap) return {};
    if (guest_.exit_code) return {};  // proc_exit leaves by a trap
    if (trap) return end_by(what, trap.get());
    dead_ = host_error(what, guest_.failure.value_or("the engine failed"), failure.get(), module_.original_bytes());
    return *dead_;
}

void InstanceImpl::set_fuel() {
    if (!module_.runtime().counts_fuel()) return;
    const ErrorPtr failure(
        wasmtime_context_set_fuel(context_, limits_.turn_fuel != 0 ? limits_.turn_fuel : UINT64_MAX));
    CHECK(!failure);  // only of an engine that does not count
}

void InstanceImpl::take_fuel() {
    uint64_t left = 0;
    if (!module_.runtime().counts_fuel()) return;
    const ErrorPtr failure(wasmtime_context_get_fuel(context_, &left));
    CHECK(!failure);
    fuel_used_ = (limits_.turn_fuel != 0 ? limits_.turn_fuel : UINT64_MAX) - left;
}

Error InstanceImpl::end_by(std::string_view what, const wasm_trap_t* trap) {
    trap_ = trap_of(trap, module_.original_bytes());
    dead_ = trap_error(what, *trap_, limits_);
    return *dead_;
}

// Linear memory whose file is gone ends the instance.
Result<void> InstanceImpl::check_intact(const std::string& what) {
    const auto intact = memory_.region.check_intact(0, memory_.region.size());
    if (!intact.ok()) dead_ = error(intact.error().code, what + ": " + intact.error().message);
    if (dead_) return *dead_;
    return {};
}

std::optional<std::span<uint8_t>> InstanceImpl::range(GuestRange range) {
    uint8_t* at = guest_.at(range.offset, range.length);
    if (at == nullptr) return std::nullopt;
    return std::span<uint8_t>(at, range.length);
}

}  // namespace driftwood::wasm
