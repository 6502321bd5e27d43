#include "wasm/linear_memory.h"

#include <utility>

#include "base/check.h"

namespace driftwood::wasm {
namespace {

thread_local LinearMemory* scoped_memory = nullptr;

// Called back by Wasmtime: nothing may be thrown from here on.

uint8_t* get_memory(void* env, size_t* size_bytes, size_t* capacity_bytes) noexcept {
    const memory::Region& region = static_cast<const LinearMemory*>(env)->region;
    *size_bytes = region.size();
    *capacity_bytes = region.capacity();
    return region.base();
}

wasmtime_error_t* grow_memory(void* env, size_t size_bytes) noexcept {
    auto& memory = *static_cast<LinearMemory*>(env);
    auto grown = memory.region.grow(size_bytes);
    if (grown.ok()) return nullptr;
    memory.failure = std::move(grown).error();
    return wasmtime_error_new(memory.failure->message.c_str());
}

wasmtime_error_t* new_memory(void*, const wasm_memorytype_t*, size_t minimum, size_t, size_t reserved_bytes, size_t,
                             wasmtime_linear_memory_t* out) noexcept {
    LinearMemory* memory = std::exchange(scoped_memory, nullptr);  // one memory per instance
    if (memory == nullptr) return wasmtime_error_new("[wasm.memory] no instance asks for a linear memory here");
    if (memory->region.capacity() < reserved_bytes) {
        return wasmtime_error_new("[wasm.memory] the region is smaller than the engine's reservation");
    }
    *out = {memory, get_memory, grow_memory, nullptr};
    return grow_memory(memory, minimum);
}

}  // namespace

LinearMemoryScope::LinearMemoryScope(LinearMemory& memory) {
    CHECK(scoped_memory == nullptr);
    scoped_memory = &memory;
}

LinearMemoryScope::~LinearMemoryScope() { scoped_memory = nullptr; }

void use_regions(wasm_config_t* config) {
    // The C call copies the struct; nothing in it is owned.
    wasmtime_memory_creator_t creator = {nullptr, new_memory, nullptr};
    wasmtime_config_host_memory_creator_set(config, &creator);
}

}  // namespace driftwood::wasm
