// The table of everything a guest may import: driftwood.* (include/driftwood/guest.h) and wasi_snapshot_preview1.*.
// Each row's signature and marshalling follow from the C++ type of the function it names (marshal.h). For this folder
// only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "wasm/handles.h"

namespace driftwood::wasm {

// A parameter or result as the guest sees it; kPointer, kLength (in bytes) and kCount (in words of 4 bytes) are i32.
enum class Slot : uint8_t { kI32, kI64, kPointer, kLength, kCount };

struct HostCall {
    std::string_view module;
    std::string_view name;
    std::span<const Slot> parameters;
    std::optional<Slot> result;
    int64_t fault;  // what it returns when a range is outside linear memory
    wasmtime_func_unchecked_callback_t callback;
};

std::span<const HostCall> driftwood_calls();
std::span<const HostCall> wasi_calls();
std::span<const HostCall> host_calls();  // both

const HostCall* find_host_call(std::string_view module, std::string_view name);

FuncTypePtr function_type(const HostCall& call);
// "(i32, i32) -> i64", of a row or of a module's import.
std::string signature_text(const HostCall& call);
std::string signature_text(const wasm_functype_t* type);

}  // namespace driftwood::wasm
