// Linear memories that are memory::Regions. Wasmtime asks one creator per engine for every memory and does not say for
// which store, so the instance that is being made names its Region in a thread-local for as long as instantiation
// takes. The instance then checks that the base Wasmtime uses is its Region's.
#pragma once

#include <wasmtime.h>

#include <optional>

#include "base/result.h"
#include "memory/region.h"

namespace driftwood::wasm {

// The linear memory of one instance; outlives its store.
struct LinearMemory {
    memory::Region region;         // reserved; committed exactly as far as the guest has grown it
    std::optional<Error> failure;  // growth within the guest's limits that the system refused
};

// Makes `memory` (nothing of it committed) the linear memory of the one instance that this thread creates while the
// scope lives.
class LinearMemoryScope {
  public:
    explicit LinearMemoryScope(LinearMemory& memory);
    ~LinearMemoryScope();
    LinearMemoryScope(const LinearMemoryScope&) = delete;
    LinearMemoryScope& operator=(const LinearMemoryScope&) = delete;
};

// Tells the engine under construction to get its memories from LinearMemoryScope.
void use_regions(wasm_config_t* config);

}  // namespace driftwood::wasm
