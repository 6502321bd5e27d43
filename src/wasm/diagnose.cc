#include "wasm/diagnose.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "wasm/host_calls.h"
#include "wasm/limits.h"

namespace driftwood::wasm {
namespace {

constexpr std::string_view kDriftwood = "driftwood";
constexpr std::string_view kWasi = "wasi_snapshot_preview1";
constexpr size_t kMaxProblems = 20;

struct RequiredExport {
    std::string_view name;
    std::string_view kind;
    std::string_view type;  // empty: any
    bool required;
    std::string_view meaning;
    std::string_view fix;
};
constexpr RequiredExport kExports[] = {
    {"memory", "memory", "", true, "linear memory: the actor's state",
     "define one memory in the guest and export it under this name (wasm-ld does, unless told --import-memory)"},
    {"driftwood_start", "func", kNoArguments, true, "the first turn",
     "link an SDK (sdk/cpp, sdk/rust), or export it yourself as docs/abi.md says"},
    {"driftwood_complete", "func", "(i64, i64) -> ()", true, "every later turn: operation and status",
     "link an SDK (sdk/cpp, sdk/rust), or export it yourself as docs/abi.md says"},
    {"_initialize", "func", kNoArguments, false, "constructors, run once at birth", "export it as () -> ()"},
};

struct Fix {
    std::string_view feature;  // what a refusal's feature begins with
    std::string_view fix;
};
constexpr Fix kFixes[] = {
    {"threads", "build without -pthread and without atomics (in Rust without +atomics)"},
    {"shared memory", "build without -pthread and without --shared-memory"},
    {"memory.init", "build without -pthread: then data segments are active, which the birth image takes in"},
    {"data.drop", "build without -pthread: then data segments are active, which the birth image takes in"},
    {"table.init", "use active element segments, and table.set or table.copy for changes"},
    {"elem.drop", "use active element segments, and table.set or table.copy for changes"},
    {"exceptions", "build with -fno-exceptions (C++) or panic=abort (Rust)"},
    {"gc", "compile for linear memory; a language whose back end needs the collector of the engine does not fit"},
    {"host references", "hold what the host gives out as integer handles, not as externref"},
    {"table of references", "hold what the host gives out as integer handles, not as externref"},
    {"reference-typed mutable global", "put the function into a table and hold its index in the global"},
    {"typed function references", "use call_indirect through a table of funcref"},
    {"stack switching", "use coroutines that the compiler turns into state machines (C++20, Rust async)"},
    {"memory64", "build for wasm32"},
    {"multiple memories", "keep everything in memory 0 (wasm-opt --multi-memory-lowering)"},
    {"relaxed SIMD", "build with -msimd128 and without -mrelaxed-simd"},
    {"custom page sizes", "use pages of 64 KiB"},
    {"imported memory", "link without --import-memory: the guest defines its memory and exports it"},
    {"imported table", "link without --import-table"},
    {"imported global", "link statically: position-independent modules import globals"},
    {"imported tag", "build with -fno-exceptions (C++) or panic=abort (Rust)"},
    {"computed data offset", "link statically: position-independent modules compute where data goes"},
    {"data outside memory", "let memory begin large enough (wasm-ld --initial-memory=BYTES)"},
    {"reserved export name", "rename the export"},
    {"missing memory", "define one memory in the guest and export it as \"memory\""},
    {"nested loops", "split the function, or turn inner loops into functions of their own"},
    {"wide arithmetic", "build without -mwide-arithmetic"},
    {"unsupported proposal", "build for WebAssembly 2.0 without it"},
};

std::string fix_of(std::string_view feature) {
    const auto* found = std::find_if(std::begin(kFixes), std::end(kFixes),
                                     [&](const Fix& fix) { return feature.starts_with(fix.feature); });
    return found == std::end(kFixes) ? "" : std::string(found->fix);
}

// How many letters of `a` must change, go or come to make it `b`.
size_t distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= a.size(); i++) {
        size_t diagonal = std::exchange(row[0], i);
        for (size_t j = 1; j <= b.size(); j++) {
            const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = std::exchange(row[j], std::min({change, row[j] + 1, row[j - 1] + 1}));
        }
    }
    return row.back();
}

// The call of `calls` that was probably meant.
std::optional<std::string_view> nearest(std::span<const HostCall> calls, std::string_view name) {
    constexpr size_t kMaxLetters = 64;
    if (name.size() > kMaxLetters) return std::nullopt;
    const auto best = std::min_element(calls.begin(), calls.end(), [&](const HostCall& a, const HostCall& b) {
        return distance(a.name, name) < distance(b.name, name);
    });
    if (distance(best->name, name) > 1 + name.size() / 3) return std::nullopt;
    return best->name;
}

std::string fix_of_unknown(const ModuleImport& import) {
    if (import.module == kDriftwood || import.module == kWasi) {
        const auto meant = nearest(import.module == kDriftwood ? driftwood_calls() : wasi_calls(), import.name);
        if (meant) return "did you mean " + import.module + "." + std::string(*meant) + "?";
        return "docs/abi.md lists the calls of this runtime; a newer guest may need a newer runtime";
    }
    if (import.module == "wasi_unstable") return "build with a newer wasi-libc or wasi-sdk";
    if (import.module.find(':') != std::string::npos) {
        return "an interface of the component model: build for wasm32-wasip1, not wasip2";
    }
    if (import.module == "wasi_ephemeral_nn") return "use the driftwood calls for inference instead";
    if (import.module.starts_with("__wbindgen") || import.module == "wbg") {
        return "wasm-bindgen wants a JavaScript host: build without it";
    }
    if (import.module == "env" || import.module == "a") {
        return "nothing in the guest defines " + import.name +
               ": link what does (from Emscripten: -sSTANDALONE_WASM), or remove the call";
    }
    return "guests may import from driftwood and wasi_snapshot_preview1 only (docs/abi.md)";
}

std::optional<Problem> import_problem(const ModuleImport& import) {
    const std::string thing = "import " + import.full_name();
    if (import.kind != "func") {
        return Problem{thing, "only functions can be imported", fix_of("imported " + import.kind)};
    }
    const HostCall* call = find_host_call(import.module, import.name);
    if (call == nullptr) return Problem{thing, "this runtime does not have it", fix_of_unknown(import)};
    if (const std::string want = signature_text(*call); want != import.type) {
        return Problem{thing, "want type " + want + ", the module says " + import.type,
                       "declare it as include/driftwood/guest.h or the WASI specification does"};
    }
    return std::nullopt;
}

std::optional<Problem> export_problem(const RequiredExport& want, const ModuleFacts& facts) {
    const std::string thing = "export " + std::string(want.name);
    const auto has = [&](std::string_view name) {
        return std::find_if(facts.exports.begin(), facts.exports.end(),
                            [&](const ModuleExport& item) { return item.name == name; });
    };
    const auto found = has(want.name);
    if (found == facts.exports.end() && !want.required) return std::nullopt;
    if (found == facts.exports.end()) {
        const bool command = want.kind == "func" && has("_start") != facts.exports.end();
        return Problem{thing, "the module lacks it",
                       command
                           ? "_start makes it a program that runs once: build a reactor (-mexec-model=reactor, or a "
                             "cdylib in Rust) with an SDK"
                           : std::string(want.fix)};
    }
    if (found->kind != want.kind || (!want.type.empty() && found->type != want.type)) {
        std::string why = "want " + std::string(want.kind == "func" ? "type" : want.kind) + " " +
                          std::string(want.type) + ", the module says " + found->type;
        return Problem{thing, std::move(why), "declare it as docs/abi.md says"};
    }
    return std::nullopt;
}

std::string import_meaning(const ModuleImport& import) {
    if (import_problem(import)) return "not available";
    if (import.module == kDriftwood) return "guest ABI";
    constexpr std::string_view kRefused[] = {"path_", "sock_", "poll_oneoff", "fd_prestat", "fd_readdir"};
    const bool refused = std::any_of(std::begin(kRefused), std::end(kRefused),
                                     [&](std::string_view prefix) { return import.name.starts_with(prefix); });
    return refused ? "WASI; always an error: there are no files, sockets or polls" : "WASI";
}

std::string export_meaning(const ModuleExport& item) {
    const auto* found = std::find_if(std::begin(kExports), std::end(kExports),
                                     [&](const RequiredExport& known) { return known.name == item.name; });
    if (found != std::end(kExports)) return std::string(found->meaning);
    return item.kind == "func" ? "not called by the runtime" : "";
}

// The engine's own limits: on the size of functions, types, tables.
void try_engine(Runtime& runtime, std::span<const uint8_t> bytes, Diagnosis& diagnosis) {
    if (!diagnosis.starts()) return;
    const auto module = Module::compile(runtime, {bytes.begin(), bytes.end()});
    if (!module.ok()) {
        diagnosis.not_startable.push_back(
            {"module", module.error().message, "make what it names smaller, or split the function"});
    }
}

}  // namespace

std::vector<Problem> interface_problems(const ModuleFacts& facts) {
    std::vector<Problem> problems;
    for (const ModuleImport& import : facts.imports) {
        if (auto problem = import_problem(import)) problems.push_back(*std::move(problem));
        if (problems.size() == kMaxProblems) return problems;  // a module can have a million
    }
    for (const RequiredExport& want : kExports) {
        if (auto problem = export_problem(want, facts)) problems.push_back(*std::move(problem));
    }
    return problems;
}

std::string text_of(std::span<const Problem> problems) {
    std::string text;
    for (const Problem& problem : problems) {
        if (!text.empty()) text += "; ";
        text += problem.thing + ": " + problem.why;
        if (!problem.fix.empty()) text += " (" + problem.fix + ")";
    }
    return text;
}

Result<Diagnosis> diagnose(Runtime& runtime, std::span<const uint8_t> bytes) {
    if (bytes.size() > kMaxModuleBytes) {
        return error(ErrorCode::kLimit, "[doctor] module: want at most " + std::to_string(kMaxModuleBytes) +
                                            " bytes, got " + std::to_string(bytes.size()));
    }
    Diagnosis diagnosis;
    DW_ASSIGN(diagnosis.facts, inspect(bytes));
    for (const ModuleImport& import : diagnosis.facts.imports) {
        diagnosis.imports.push_back({import.full_name(),
                                     import.kind == "func" ? import.type : import.kind + " " + import.type,
                                     import_meaning(import)});
    }
    for (const ModuleExport& item : diagnosis.facts.exports) {
        diagnosis.exports.push_back(
            {item.name, item.kind == "func" ? item.type : item.kind + " " + item.type, export_meaning(item)});
    }
    for (const Refusal& refusal : diagnosis.facts.refusals) {
        diagnosis.not_freezable.push_back({refusal.feature, refusal.why, fix_of(refusal.feature)});
    }
    diagnosis.not_startable = interface_problems(diagnosis.facts);
    // A memory that is imported is refused as such already.
    if (!diagnosis.freezes()) {
        std::erase_if(diagnosis.not_startable,
                      [](const Problem& p) { return p.why == "only functions can be imported"; });
    }
    try_engine(runtime, bytes, diagnosis);
    return diagnosis;
}

}  // namespace driftwood::wasm
