// A rewritten module into code for this machine: out of the user's cache of compiled modules, or compiled and put
// there. For this folder only.
#pragma once

#include <cstdint>
#include <span>

#include "wasm/handles.h"
#include "wasm/runtime_impl.h"

namespace driftwood::wasm {

// kInvalidArgument: not a module that the engine takes. Whatever is wrong with the cache only goes into `report`.
Result<ModulePtr> compile_code(const RuntimeImpl& runtime, std::span<const uint8_t> wasm, CompileReport& report);

}  // namespace driftwood::wasm
