// Owners for Wasmtime's C objects, and the words of its errors. For this folder only: includes Wasmtime.
#pragma once

#include <wasmtime.h>

#include <memory>
#include <string>
#include <string_view>

namespace driftwood::wasm {

template <auto Delete>
struct Deleter {
    template <class T>
    void operator()(T* object) const {
        Delete(object);
    }
};

using EnginePtr = std::unique_ptr<wasm_engine_t, Deleter<wasm_engine_delete>>;
using LinkerPtr = std::unique_ptr<wasmtime_linker_t, Deleter<wasmtime_linker_delete>>;
using ModulePtr = std::unique_ptr<wasmtime_module_t, Deleter<wasmtime_module_delete>>;
using InstancePrePtr = std::unique_ptr<wasmtime_instance_pre_t, Deleter<wasmtime_instance_pre_delete>>;
using StorePtr = std::unique_ptr<wasmtime_store_t, Deleter<wasmtime_store_delete>>;
using ErrorPtr = std::unique_ptr<wasmtime_error_t, Deleter<wasmtime_error_delete>>;
using TrapPtr = std::unique_ptr<wasm_trap_t, Deleter<wasm_trap_delete>>;
using FuncTypePtr = std::unique_ptr<wasm_functype_t, Deleter<wasm_functype_delete>>;

inline std::string_view view(const wasm_byte_vec_t& bytes) { return {bytes.data, bytes.size}; }

// Wasmtime's own words for an error.
std::string message_of(const wasmtime_error_t* failure);

}  // namespace driftwood::wasm
