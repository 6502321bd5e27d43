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
    bool fuel = false;      // count what guests execute, for InstanceLimits::turn_fuel; makes them slower
    // Directory of compiled modules, private to this user (file/private_cache.h); "": none.
    std::string module_cache = {};
};

class Runtime {
  public:
    static Result<std::unique_ptr<Runtime>> create(const RuntimeOptions& options);
    virtual ~Runtime() = default;

  protected:
    Runtime() = default;
};

struct ModuleImport {
    std::string module;
    std::string name;
    std::string kind;  // "func", "table", "memory", "global", "tag"
    std::string type;  // of a function: "(i32, i64) -> (i32)"
    std::string full_name() const { return module + "." + name; }
};

struct ModuleExport {
    std::string name;
    std::string kind;
    std::string type;
};

// Why a module cannot be frozen, and so is not loaded.
struct Refusal {
    std::string feature;  // "shared memory"
    std::string why;
};

// What a module imports, exports and needs.
struct ModuleFacts {
    file::Hash hash{};  // blake3 of the original bytes
    uint64_t size_bytes = 0;
    uint64_t code_bytes = 0;
    uint64_t functions = 0;  // imports included
    uint64_t memory_min_pages = 0;
    std::optional<uint64_t> memory_max_pages;
    std::vector<ModuleImport> imports;
    std::vector<ModuleExport> exports;
    std::vector<Refusal> refusals;
    std::vector<uint64_t> tables;  // how many elements each begins with
    uint64_t globals = 0;
    uint64_t mutable_globals = 0;
    bool mutates_tables = false;
    bool has_start = false;
    bool has_names = false;  // a name section: traps name functions
    bool has_lines = false;  // DWARF: traps name files and lines
    std::vector<std::string>
        features;  // proposals that it needs ("SIMD"); known to inspect() only, of a module not refused
};

// kInvalidArgument: not a core module.
Result<ModuleFacts> inspect(std::span<const uint8_t> bytes);

// Where a module's code came from. A cache that cannot be used costs time only, so that is no error.
struct CompileReport {
    bool from_cache = false;
    std::string cache_problem;  // why the cache was not used or not filled; empty: it was, or there is none
};

class Module {
  public:
    // Inspects, rewrites and compiles. kUnsupported lists all refusals; kInvalidArgument: not a valid module, or an
    // import the runtime does not have (named), or a required export is missing.
    static Result<std::unique_ptr<Module>> compile(Runtime& runtime, std::vector<uint8_t> bytes);
    virtual ~Module() = default;
    virtual const ModuleFacts& facts() const = 0;
    virtual std::span<const uint8_t> original_bytes() const = 0;  // what an image stores as actor.module
    virtual const CompileReport& compile_report() const = 0;

  protected:
    Module() = default;
};

struct InstanceLimits {
    uint64_t memory_bytes = 256ull << 20;  // linear memory; growth beyond fails with -1 inside the guest
    uint32_t table_elements = 1 << 16;
    uint32_t turn_deadline_ms = 2000;  // a turn that takes longer traps
    uint64_t turn_fuel = 0;  // a turn that executes more traps, always at the same instruction; 0: no limit, else the
                             // Runtime counts fuel. About one unit for an instruction
};

struct WasiOptions {
    std::vector<std::string> args;         // args[0] is the program's name
    std::vector<std::string> environment;  // "NAME=value"
};

enum class TrapKind : uint8_t {
    kUnreachable,
    kMemoryBounds,
    kTableBounds,
    kNullCall,
    kBadSignature,
    kDivideByZero,
    kIntegerOverflow,
    kBadConversion,
    kStackOverflow,
    kDeadline,   // turn_deadline_ms
    kOutOfFuel,  // turn_fuel
    kOther,
};

// A place in the guest; what the module's name section and DWARF say about it.
struct TrapFrame {
    std::string function;  // demangled; "function 7" where there is no name
    std::string file;      // empty: unknown
    uint32_t line = 0;     // 0: unknown
    uint32_t column = 0;   // 0: unknown
};

struct Trap {
    TrapKind kind = TrapKind::kOther;
    std::vector<TrapFrame> frames;  // innermost first; functions that were inlined have frames of their own
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

    // The trap that ended its life, if one did. A trap at birth is in the Error of create() only.
    virtual const std::optional<Trap>& trap() const = 0;
    // What the last turn executed, in units of fuel; 0 unless the Runtime counts.
    virtual uint64_t fuel_used() const = 0;

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
