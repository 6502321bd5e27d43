// What a host function sees of the instance that calls it: the data of its Wasmtime store. For this folder only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "memory/region.h"
#include "wasm/guest_host.h"

namespace driftwood::wasm {

inline constexpr uint16_t kMaxFdFlags = 0x1f;  // append, dsync, nonblock, rsync, sync

// WASI as the guest left it; part of a snapshot.
struct WasiState {
    struct Descriptor {
        bool open = true;
        uint16_t flags = 0;  // fdflags of fd_fdstat_set_flags
    };
    std::vector<std::string> args;
    std::vector<std::string> environment;
    std::array<Descriptor, 3> descriptors;  // stdin, stdout, stderr

    // Whether arguments and environment can be handed over: C strings, of a bounded size together.
    Result<void> check() const;
};

struct Guest {
    GuestHost& host;
    memory::Region& memory;  // committed exactly as far as linear memory reaches
    WasiState wasi;
    bool in_birth = false;  // `start` or `_initialize` runs: calls that belong to a turn are refused
    std::optional<int32_t> exit_code;
    std::optional<std::string> failure;  // why a host call could not do its work: ends the turn

    // The bytes [offset, offset + length) of linear memory; null when any of them is outside.
    uint8_t* at(uint32_t offset, uint64_t length) const {
        const uint64_t size = memory.size();
        return offset <= size && length <= size - offset ? memory.base() + offset : nullptr;
    }
};

}  // namespace driftwood::wasm
