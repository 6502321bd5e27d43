#include "wasm/compile.h"

#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <string_view>

namespace driftwood::wasm {
namespace {

// What the processor can do, so that a home shared by different machines keeps code for each. Whether code fits this
// processor is not believed from here: Wasmtime checks the instruction sets that it was compiled for.
void hash_processor(file::Hasher& hasher) {
#if defined(__x86_64__)
    hasher.field("x86-64");
    for (const unsigned leaf : {1U, 7U, 0x80000001U}) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        __get_cpuid_count(leaf, 0, &a, &b, &c, &d);
        hasher.field_u64(leaf == 7 ? b : 0);  // elsewhere it holds the core's number
        hasher.field_u64(uint64_t{c} << 32 | d);
    }
#elif defined(__linux__)
    hasher.field("linux");
    hasher.field_u64(getauxval(AT_HWCAP));
    hasher.field_u64(getauxval(AT_HWCAP2));
#endif
}

// Of everything that decides what the engine makes. The rewriter's work is in `wasm` itself; Wasmtime compares its own
// settings with those that code was compiled under and refuses what differs.
file::Hash key_of(const RuntimeImpl& runtime, std::span<const uint8_t> wasm) {
    file::Hasher hasher;
    hasher.field("driftwood compiled module 1");
    hasher.field(WASMTIME_VERSION);
    hasher.field(kDeterminismSettings);
    hasher.field(runtime.counts_fuel() ? "fuel" : "no fuel");
    hash_processor(hasher);
    hasher.field(wasm);
    return hasher.finish();
}

ModulePtr load(const RuntimeImpl& runtime, const file::Hash& key) {
    const auto code = runtime.cache()->load(key);
    if (!code) return nullptr;
    wasmtime_module_t* module = nullptr;
    const ErrorPtr failure(wasmtime_module_deserialize(runtime.engine(), code->data(), code->size(), &module));
    return ModulePtr(failure ? nullptr : module);  // of another configuration: compiled again, and replaced
}

Result<void> store(const RuntimeImpl& runtime, const file::Hash& key, const wasmtime_module_t* module) {
    wasm_byte_vec_t code;
    if (const ErrorPtr failure(wasmtime_module_serialize(module, &code)); failure) {
        return error(ErrorCode::kInternal, "[wasm.cache] " + message_of(failure.get()));
    }
    auto stored = runtime.cache()->store(key, {reinterpret_cast<const uint8_t*>(code.data), code.size});
    wasm_byte_vec_delete(&code);
    return stored;
}

}  // namespace

Result<ModulePtr> compile_code(const RuntimeImpl& runtime, std::span<const uint8_t> wasm, CompileReport& report) {
    report.cache_problem = runtime.cache_problem();
    const file::Hash key = runtime.cache() != nullptr ? key_of(runtime, wasm) : file::Hash{};
    if (runtime.cache() != nullptr) {
        if (ModulePtr module = load(runtime, key)) {
            report.from_cache = true;
            return module;
        }
    }
    wasmtime_module_t* compiled = nullptr;
    if (const ErrorPtr failure(wasmtime_module_new(runtime.engine(), wasm.data(), wasm.size(), &compiled)); failure) {
        return error(ErrorCode::kInvalidArgument, "[wasm.compile] " + message_of(failure.get()));
    }
    ModulePtr module(compiled);
    if (runtime.cache() != nullptr) {
        if (const auto stored = store(runtime, key, module.get()); !stored.ok()) {
            report.cache_problem = stored.error().message;
        }
    }
    return module;
}

}  // namespace driftwood::wasm
