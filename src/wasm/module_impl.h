// A compiled guest: what every instance of it is made from. Immutable once made, so any number of threads may
// instantiate it. For this folder only.
#pragma once

#include <string>
#include <vector>

#include "memory/shared_file.h"
#include "wasm/handles.h"
#include "wasm/instance.h"
#include "wasm/rewrite.h"
#include "wasm/runtime_impl.h"

namespace driftwood::wasm {

// A run of the birth image that instances map: multiples of the Wasm page.
struct BirthRun {
    uint64_t memory_offset = 0;
    uint64_t file_offset = 0;
    uint64_t length = 0;
};

class ModuleImpl final : public Module {
  public:
    static Result<std::unique_ptr<ModuleImpl>> make(RuntimeImpl& runtime, std::vector<uint8_t> bytes);

    const ModuleFacts& facts() const override { return rewritten_.facts; }
    std::span<const uint8_t> original_bytes() const override { return bytes_; }
    const CompileReport& compile_report() const override { return compile_report_; }

    RuntimeImpl& runtime() const { return runtime_; }
    const wasmtime_instance_pre_t* instance_pre() const { return instance_pre_.get(); }
    const Rewritten& layout() const { return rewritten_; }
    bool exports_function(std::string_view name) const;        // of type () -> ()
    const IndexedExport* find_function(uint32_t index) const;  // of those a table can hold; null: none

    // Backs `memory`, bare and as large as the module's minimum, with the birth image.
    Result<void> map_birth(memory::Region& memory) const;

  private:
    ModuleImpl(RuntimeImpl& runtime, std::vector<uint8_t> bytes) : runtime_(runtime), bytes_(std::move(bytes)) {}
    Result<void> make_birth();

    RuntimeImpl& runtime_;
    std::vector<uint8_t> bytes_;
    Rewritten rewritten_;
    CompileReport compile_report_;
    InstancePrePtr instance_pre_;
    memory::SharedFile birth_;  // the runs one after the other; null when there is no data
    std::vector<BirthRun> birth_runs_;
};

}  // namespace driftwood::wasm
