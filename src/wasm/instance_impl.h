// One actor's guest: a Wasmtime store with one instance in it, whose linear memory is a Region. For this folder only.
#pragma once

#include <optional>
#include <string>

#include "wasm/guest.h"
#include "wasm/handles.h"
#include "wasm/instance.h"
#include "wasm/linear_memory.h"
#include "wasm/module_impl.h"

namespace driftwood::wasm {

class InstanceImpl final : public Instance {
  public:
    // Bare: memory at the module's minimum and all zeros, nothing run.
    static Result<std::unique_ptr<InstanceImpl>> make(const ModuleImpl& module, GuestHost& host,
                                                      const InstanceLimits& limits);

    Result<void> start() override { return run(start_, "driftwood_start", nullptr, 0); }
    Result<void> complete(int64_t op, int64_t status) override;
    Result<void> call(std::string_view export_name) override;
    std::optional<int32_t> exit_code() const override { return guest_.exit_code; }

    const std::optional<Trap>& trap() const override { return trap_; }
    uint64_t fuel_used() const override { return fuel_used_; }

    memory::Region& memory() override { return memory_.region; }
    const uint8_t* guest_base() const override { return wasmtime_memory_data(context_, &wasm_memory_); }
    std::optional<std::span<uint8_t>> range(GuestRange range) override;

    Result<void> save(file::SectionWriter& image, file::Encoder& state) const override;

    // The two ways to go on from bare.
    Result<void> be_born(WasiState wasi);
    Result<void> load(const file::SectionReader& image, file::Decoder& state);

  private:
    InstanceImpl(const ModuleImpl& module, GuestHost& host, const InstanceLimits& limits, memory::Region memory);
    Result<void> instantiate();
    Result<void> find_exports();
    std::optional<wasmtime_extern_t> find_export(const std::string& name) const;
    wasmtime_extern_t state_export(const std::string& name, wasmtime_extern_kind_t kind) const;

    Result<void> run_export(const std::string& name);
    Result<void> run(const wasmtime_func_t& function, std::string_view name, const int64_t* arguments, size_t count);

    void set_fuel();
    void take_fuel();
    Error end_by(std::string_view what, const wasm_trap_t* trap);
    Result<void> check_intact(const std::string& what);

    // snapshot.cc
    void save_globals(file::Encoder& state) const;
    Result<void> save_tables(file::Encoder& state) const;
    void save_wasi(file::Encoder& state) const;
    Result<void> load_identity(file::Decoder& state) const;
    Result<void> load_memory(const file::SectionReader& image, uint64_t size_bytes);
    Result<void> load_globals(file::Decoder& state);
    Result<void> load_tables(file::Decoder& state);
    Result<void> load_table(file::Decoder& state, const IndexedExport& slot);
    Result<void> load_wasi(file::Decoder& state);

    const ModuleImpl& module_;
    const InstanceLimits limits_;
    LinearMemory memory_;  // outlives store_, which uses it
    Guest guest_;
    StorePtr store_;
    wasmtime_context_t* context_ = nullptr;
    wasmtime_instance_t instance_{};
    wasmtime_memory_t wasm_memory_{};
    wasmtime_func_t start_{};
    wasmtime_func_t complete_{};
    bool running_ = false;
    std::optional<Error> dead_;  // what ended its life
    std::optional<Trap> trap_;   // if it was a trap
    uint64_t fuel_used_ = 0;
};

}  // namespace driftwood::wasm
