// A guest: module -> instance whose linear memory is a memory::Region -> turns.
//
//   Runtime   one per process or node: Wasmtime's engine with deterministic settings and the epoch ticker
//   Module    a guest's bytes, inspected, refused by name or rewritten, compiled; shared by its instances
//   Instance  one actor's store and instance; runs one turn at a time
//
// Every instance, new or thawed, is made the same way: instantiate the rewritten module bare, grow memory to size,
// check that Wasmtime's base is the Region's, map an image (the birth image, or a frozen memory), set globals and
// tables.
//
// Threads: Runtime and Module may be shared by threads; an Instance runs on one thread at a time. Lifetime: Runtime
// outlives Modules, a Module outlives its Instances, the GuestHost outlives the Instance.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "file/encoding.h"
#include "file/hash.h"
#include "file/section.h"
#include "memory/region.h"
#include "wasm/guest_host.h"

namespace driftwood::wasm {

struct RuntimeOptions {
    uint32_t epoch_ms = 5;  // how often running guests look whether their deadline has passed
};

class Runtime {
  public:
    static Result<std::unique_ptr<Runtime>> create(RuntimeOptions options);
    virtual ~Runtime() = default;

  protected:
    Runtime() = default;
};

// What a module imports, exports and needs, and why it cannot run or be frozen, if so.
struct ModuleFacts {
    file::Hash hash{};  // blake3 of the original bytes
    uint32_t memory_min_pages = 0;
    std::optional<uint32_t> memory_max_pages;
    std::vector<std::string> imports;  // "driftwood.receive", "wasi_snapshot_preview1.fd_write"
    std::vector<std::string> exports;
    std::vector<std::string> refusals;  // "threads: shared memory cannot be frozen", …; empty: good
    bool mutates_tables = false;
};

Result<ModuleFacts> inspect(std::span<const uint8_t> bytes);

class Module {
  public:
    // Inspects, rewrites and compiles. kUnsupported lists all refusals; kInvalidArgument: not a valid module, or an
    // import the runtime does not have (named), or a required export is missing.
    static Result<std::unique_ptr<Module>> compile(Runtime& runtime, std::vector<uint8_t> bytes);
    virtual ~Module() = default;
    virtual const ModuleFacts& facts() const = 0;
    virtual std::span<const uint8_t> original_bytes() const = 0;  // what an image stores as actor.module

  protected:
    Module() = default;
};

struct InstanceLimits {
    uint64_t memory_bytes = 256ull << 20;  // linear memory; growth beyond fails with -1 inside the guest
    uint32_t table_elements = 1 << 16;
    uint32_t turn_deadline_ms = 2000;  // a turn that takes longer traps
};

struct WasiOptions {
    std::vector<std::string> args;         // args[0] is the program's name
    std::vector<std::string> environment;  // "NAME=value"
};

class Instance {
  public:
    // A newborn: birth image mapped, `start` and `_initialize` run (they may not issue operations). Traps are kTrap or
    // kDeadline errors with the guest's own stack of function names.
    static Result<std::unique_ptr<Instance>> create(const Module& module, GuestHost& host, const InstanceLimits& limits,
                                                    WasiOptions wasi);
    // The instance that save() wrote: memory is mapped from the reader's file, nothing of birth runs again. Verifies
    // hashes of everything it takes; a different module is kMismatch.
    static Result<std::unique_ptr<Instance>> restore(const Module& module, GuestHost& host,
                                                     const InstanceLimits& limits, const file::SectionReader& image,
                                                     file::Decoder& state);
    virtual ~Instance() = default;

    // Runs one turn: driftwood_start(), or driftwood_complete(op, status). A failed turn leaves the instance dead:
    // every later call fails with the same error.
    virtual Result<void> start() = 0;
    virtual Result<void> complete(int64_t op, int64_t status) = 0;
    // Calls any export () -> () as a turn of its own (experiments and benchmarks; actors are driven by the two above).
    virtual Result<void> call(std::string_view export_name) = 0;
    // proc_exit was called: the actor has stopped, with this code.
    virtual std::optional<int32_t> exit_code() const = 0;

    virtual memory::Region& memory() = 0;
    // Where Wasmtime has linear memory now: what compiled guest code adds its offsets to. It is the Region's base.
    virtual const uint8_t* guest_base() const = 0;
    // The bytes of a range if it lies inside linear memory now.
    virtual std::optional<std::span<uint8_t>> range(GuestRange range) = 0;

    // Writes tensor `wasm.memory.0` (borrowing linear memory until the writer commits) and a record with globals,
    // tables and WASI state into `state`. Call between turns.
    virtual Result<void> save(file::SectionWriter& image, file::Encoder& state) const = 0;

  protected:
    Instance() = default;
};

}  // namespace driftwood::wasm
