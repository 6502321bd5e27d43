#include <algorithm>
#include <cstring>

#include "file/private_file.h"
#include "wasm/host_calls.h"
#include "wasm/limits.h"
#include "wasm/module_impl.h"

namespace driftwood::wasm {
namespace {

constexpr std::string_view kNoArguments = "() -> ()";

struct RequiredExport {
    std::string_view name;
    std::string_view type;
    bool required;
};
constexpr RequiredExport kExports[] = {
    {"driftwood_start", kNoArguments, true},
    {"driftwood_complete", "(i64, i64) -> ()", true},
    {"_initialize", kNoArguments, false},
};

std::string list(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
    return text;
}

Result<void> check_import(const wasm_importtype_t* import) {
    const std::string module(view(*wasm_importtype_module(import)));
    const std::string name(view(*wasm_importtype_name(import)));
    const wasm_functype_t* type = wasm_externtype_as_functype_const(wasm_importtype_type(import));
    if (type == nullptr) {
        return error(ErrorCode::kInvalidArgument,
                     "[wasm.compile] import " + module + "." + name + ": only functions can be imported");
    }
    const HostCall* call = find_host_call(module, name);
    if (call == nullptr) {
        return error(ErrorCode::kInvalidArgument, "[wasm.compile] import " + module + "." + name +
                                                      ": this runtime does not have it (driftwood.* and "
                                                      "wasi_snapshot_preview1.* are listed in docs/abi.md)");
    }
    if (const std::string want = signature_text(*call), got = signature_text(type); want != got) {
        return error(ErrorCode::kInvalidArgument, "[wasm.compile] import " + module + "." + name + ": want type " +
                                                      want + ", the module says " + got);
    }
    return {};
}

Result<void> check_imports(const wasmtime_module_t* module) {
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module, &imports);
    Result<void> verdict;
    for (size_t i = 0; i < imports.size && verdict.ok(); i++) verdict = check_import(imports.data[i]);
    wasm_importtype_vec_delete(&imports);
    return verdict;
}

// Cheap, and before anything is compiled.
Result<ModuleFacts> accept(std::span<const uint8_t> bytes) {
    if (bytes.size() > kMaxModuleBytes) {
        return error(ErrorCode::kLimit, "[wasm.compile] module: want at most " + std::to_string(kMaxModuleBytes) +
                                            " bytes, got " + std::to_string(bytes.size()));
    }
    DW_ASSIGN(ModuleFacts facts, inspect(bytes));
    if (!facts.refusals.empty()) {
        return error(ErrorCode::kUnsupported, "[wasm.compile] " + list(facts.refusals));
    }
    return facts;
}

}  // namespace

Result<std::unique_ptr<Module>> Module::compile(Runtime& runtime, std::vector<uint8_t> bytes) {
    DW_ASSIGN(auto module, ModuleImpl::make(static_cast<RuntimeImpl&>(runtime), std::move(bytes)));
    return Result<std::unique_ptr<Module>>(std::move(module));
}

Result<std::unique_ptr<ModuleImpl>> ModuleImpl::make(RuntimeImpl& runtime, std::vector<uint8_t> bytes) {
    std::unique_ptr<ModuleImpl> self(new ModuleImpl(runtime, std::move(bytes)));
    DW_ASSIGN(self->facts_, accept(self->bytes_));
    DW_ASSIGN(self->rewritten_, rewrite(self->bytes_));

    wasmtime_module_t* compiled = nullptr;
    const std::vector<uint8_t>& wasm = self->rewritten_.module;
    if (const ErrorPtr failure(wasmtime_module_new(runtime.engine(), wasm.data(), wasm.size(), &compiled)); failure) {
        return error(ErrorCode::kInvalidArgument, "[wasm.compile] " + message_of(failure.get()));
    }
    const ModulePtr module(compiled);
    DW_TRY(check_imports(module.get()));
    DW_TRY(self->check_exports(module.get()));

    wasmtime_instance_pre_t* pre = nullptr;
    if (const ErrorPtr failure(wasmtime_linker_instantiate_pre(runtime.linker(), module.get(), &pre)); failure) {
        return error(ErrorCode::kInternal, "[wasm.compile] " + message_of(failure.get()));
    }
    self->instance_pre_.reset(pre);
    self->rewritten_.module = {};  // compiled
    DW_TRY(self->make_birth());
    return Result<std::unique_ptr<ModuleImpl>>(std::move(self));
}

Result<void> ModuleImpl::check_exports(const wasmtime_module_t* module) {
    bool has_memory = false;
    std::vector<std::string_view> missing;
    for (const RequiredExport& want : kExports) {
        if (want.required) missing.push_back(want.name);
    }
    wasm_exporttype_vec_t exports;
    wasmtime_module_exports(module, &exports);
    Result<void> verdict;
    for (size_t i = 0; i < exports.size; i++) {
        const std::string name(view(*wasm_exporttype_name(exports.data[i])));
        const wasm_externtype_t* what = wasm_exporttype_type(exports.data[i]);
        has_memory |= name == "memory" && wasm_externtype_kind(what) == WASM_EXTERN_MEMORY;
        const wasm_functype_t* function = wasm_externtype_as_functype_const(what);
        if (function == nullptr) continue;
        const std::string type = signature_text(function);
        if (type == kNoArguments) functions_.push_back(name);
        const auto* want = std::find_if(std::begin(kExports), std::end(kExports),
                                        [&](const RequiredExport& e) { return e.name == name; });
        if (want == std::end(kExports)) continue;
        std::erase(missing, want->name);
        if (type != want->type) {
            std::string message = "[wasm.compile] export " + name + ": want type ";
            message.append(want->type).append(", the module says ").append(type);
            verdict = error(ErrorCode::kInvalidArgument, std::move(message));
        }
    }
    wasm_exporttype_vec_delete(&exports);
    if (!has_memory) missing.push_back("memory");
    if (verdict.ok() && !missing.empty()) {
        return error(ErrorCode::kInvalidArgument,
                     "[wasm.compile] export " + std::string(missing.front()) + ": the module lacks it");
    }
    return verdict;
}

bool ModuleImpl::exports_function(std::string_view name) const {
    return std::find(functions_.begin(), functions_.end(), name) != functions_.end();
}

const IndexedExport* ModuleImpl::find_function(uint32_t index) const {
    const auto& all = rewritten_.functions;  // by index: the rewriter goes through them in order
    const auto at = std::lower_bound(all.begin(), all.end(), index,
                                     [](const IndexedExport& slot, uint32_t i) { return slot.index < i; });
    return at != all.end() && at->index == index ? &*at : nullptr;
}

// The runs are page-aligned ranges that cover all pieces; the file holds them without what lies between.
Result<void> ModuleImpl::make_birth() {
    std::vector<BirthRun>& runs = birth_runs_;
    const auto run_of = [](const BirthPiece& piece) {
        const uint64_t begin = piece.offset / kWasmPageBytes * kWasmPageBytes;
        const uint64_t end = (piece.offset + piece.bytes.size() + kWasmPageBytes - 1) / kWasmPageBytes * kWasmPageBytes;
        return BirthRun{begin, 0, end - begin};
    };
    for (const BirthPiece& piece : rewritten_.birth) {
        if (piece.offset + piece.bytes.size() > rewritten_.memory_min_pages * kWasmPageBytes) {
            return error(ErrorCode::kInvalidArgument, "[wasm.compile] data segment at " + std::to_string(piece.offset) +
                                                          ": reaches beyond the module's initial memory");
        }
        runs.push_back(run_of(piece));
    }
    std::sort(runs.begin(), runs.end(), [](auto& a, auto& b) { return a.memory_offset < b.memory_offset; });
    size_t kept = 0;
    for (const BirthRun& run : runs) {
        BirthRun* last = kept == 0 ? nullptr : &runs[kept - 1];
        if (last != nullptr && run.memory_offset <= last->memory_offset + last->length + kBirthGapBytes) {
            const uint64_t end = std::max(last->memory_offset + last->length, run.memory_offset + run.length);
            last->length = end - last->memory_offset;
        } else {
            runs[kept++] = run;
        }
    }
    runs.resize(kept);
    uint64_t total = 0;
    for (BirthRun& run : runs) {
        run.file_offset = total;
        total += run.length;
    }
    if (total == 0) return {};

    std::vector<uint8_t> image(total);
    for (const BirthPiece& piece : rewritten_.birth) {
        const auto after =
            std::upper_bound(runs.begin(), runs.end(), piece.offset,
                             [](uint64_t offset, const BirthRun& run) { return offset < run.memory_offset; });
        const BirthRun& run = *std::prev(after);
        std::memcpy(image.data() + run.file_offset + (piece.offset - run.memory_offset), piece.bytes.data(),
                    piece.bytes.size());
    }
    DW_ASSIGN(file::Fd birth, file::memory_file("driftwood-birth", image));
    birth_ = std::make_shared<const memory::OpenFile>(birth.release());
    rewritten_.birth = {};
    rewritten_.birth_bytes = {};
    return {};
}

Result<void> ModuleImpl::map_birth(memory::Region& memory) const {
    for (const BirthRun& run : birth_runs_) {
        DW_TRY(memory.map_file(run.memory_offset, birth_, run.file_offset, run.length));
    }
    return {};
}

}  // namespace driftwood::wasm
