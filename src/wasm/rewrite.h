// A guest module made ready: its `start` becomes an export, its active data the birth image, its mutable globals,
// tables and (where tables change) functions reachable under reserved export names. The work is done in deps/; this is
// the folder's view of it. For this folder only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "wasm/instance.h"

namespace driftwood::wasm {

inline constexpr const char* kMemoryExport = "__dw_memory_0";
inline constexpr const char* kStartExport = "__dw_start";

struct BirthPiece {
    uint64_t offset = 0;             // in linear memory
    std::span<const uint8_t> bytes;  // into Rewritten::birth_bytes
};

struct IndexedExport {
    uint32_t index = 0;  // in the module's own index space
    std::string name;
};

struct Rewritten {
    Rewritten() = default;
    Rewritten(Rewritten&&) = default;  // not copied: `birth` points into `birth_bytes`
    Rewritten& operator=(Rewritten&&) = default;

    ModuleFacts facts;  // of the original
    std::vector<uint8_t> module;
    std::vector<uint8_t> birth_bytes;
    std::vector<BirthPiece> birth;  // later pieces overwrite earlier ones
    uint64_t memory_min_pages = 0;
    std::optional<uint64_t> memory_max_pages;
    bool has_start = false;
    bool mutates_tables = false;
    std::vector<IndexedExport> globals;    // mutable ones
    std::vector<IndexedExport> tables;     // all
    std::vector<IndexedExport> functions;  // all that a table can hold; empty unless mutates_tables
};

// kUnsupported lists every refusal; kInvalidArgument: not a module.
Result<Rewritten> rewrite(std::span<const uint8_t> bytes);

}  // namespace driftwood::wasm
