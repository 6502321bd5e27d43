// Why a turn ended before its end: Wasmtime's trap as a Trap and as an Error. For this folder only.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "wasm/handles.h"
#include "wasm/instance.h"

namespace driftwood::wasm {

// With the guest's functions, files and lines as `module`, the original bytes, names them.
Trap trap_of(const wasm_trap_t* trap, std::span<const uint8_t> module);

// kDeadline when time or fuel ran out (the message names the limit), else kTrap. `operation`: "[wasm.turn] run".
Error trap_error(std::string_view operation, const Trap& trap, const InstanceLimits& limits);

// A turn that ended because of the runtime, which says `why`, not of the guest: kInternal.
Error host_error(std::string_view operation, std::string_view why, const wasmtime_error_t* failure,
                 std::span<const uint8_t> module);

}  // namespace driftwood::wasm
