#include <algorithm>
#include <cstring>

#include "file/private_file.h"
#include "wasm/compile.h"
#include "wasm/diagnose.h"
#include "wasm/limits.h"
#include "wasm/module_impl.h"

namespace driftwood::wasm {
namespace {

// Cheap, and before anything is compiled.
Result<Rewritten> accept(std::span<const uint8_t> bytes) {
    if (bytes.size() > kMaxModuleBytes) {
        return error(ErrorCode::kLimit, "[wasm.compile] module: want at most " + std::to_string(kMaxModuleBytes) +
                                            " bytes, got " + std::to_string(bytes.size()));
    }
    DW_ASSIGN(Rewritten rewritten, rewrite(bytes));
    if (const auto problems = interface_problems(rewritten.facts); !problems.empty()) {
        return error(ErrorCode::kInvalidArgument, "[wasm.compile] " + text_of(problems));
    }
    return rewritten;
}

}  // namespace

Result<std::unique_ptr<Module>> Module::compile(Runtime& runtime, std::vector<uint8_t> bytes) {
    DW_ASSIGN(auto module, ModuleImpl::make(static_cast<RuntimeImpl&>(runtime), std::move(bytes)));
    return Result<std::unique_ptr<Module>>(std::move(module));
}

Result<std::unique_ptr<ModuleImpl>> ModuleImpl::make(RuntimeImpl& runtime, std::vector<uint8_t> bytes) {
    std::unique_ptr<ModuleImpl> self(new ModuleImpl(runtime, std::move(bytes)));
    DW_ASSIGN(self->rewritten_, accept(self->bytes_));

    DW_ASSIGN(const ModulePtr module, compile_code(runtime, self->rewritten_.module, self->compile_report_));

    wasmtime_instance_pre_t* pre = nullptr;
    if (const ErrorPtr failure(wasmtime_linker_instantiate_pre(runtime.linker(), module.get(), &pre)); failure) {
        return error(ErrorCode::kInternal, "[wasm.compile] " + message_of(failure.get()));
    }
    self->instance_pre_.reset(pre);
    self->rewritten_.module = {};  // compiled
    DW_TRY(self->make_birth());
    return Result<std::unique_ptr<ModuleImpl>>(std::move(self));
}

bool ModuleImpl::exports_function(std::string_view name) const {
    const auto& exports = facts().exports;
    return std::any_of(exports.begin(), exports.end(), [&](const ModuleExport& item) {
        return item.name == name && item.kind == "func" && item.type == kNoArguments;
    });
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
