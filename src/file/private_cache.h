// PrivateCache: a bounded directory of values by hash, which only this user can have put there: compiled code, say,
// that is trusted as soon as it is read. Losing any of it costs time only.
//
// Why a value that load() returns is one that this user stored under that key: the directory is ours, 0700, and reached
// without following a link; so is the file (0600); names are published in one step; and the file holds the key and a
// blake3 of the value, so that neither damage nor a file moved to another name passes. Nobody who could forge that,
// root or this user, needs to.
//
// Threads: any; processes: any number share a directory. Move-only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "file/fd.h"
#include "file/hash.h"

namespace driftwood::file {

class PrivateCache {
  public:
    // Makes `directory` (0700) and its parents if they are missing. kInvalidArgument when it is not private.
    static Result<PrivateCache> open(const std::string& directory, uint64_t limit_bytes);

    // The value stored under `key`. Nothing when there is none, or none that can be trusted: a file that is not ours,
    // damaged or cut short; one of ours is then removed.
    std::optional<std::vector<uint8_t>> load(const Hash& key) const;
    // Then removes what was used longest ago until all values fit into the limit. A value larger than that: kLimit.
    Result<void> store(const Hash& key, std::span<const uint8_t> value) const;

  private:
    PrivateCache(std::string path, Fd directory, uint64_t limit_bytes)
        : path_(std::move(path)), directory_(std::move(directory)), limit_bytes_(limit_bytes) {}
    void evict() const;

    std::string path_;
    Fd directory_;  // what was checked; entries are opened relative to it
    uint64_t limit_bytes_;
};

}  // namespace driftwood::file
