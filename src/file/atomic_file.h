// AtomicFile: a file that appears whole or not at all. It is written under a temporary name (mode 0600, unpredictable,
// in the directory where it will live) and published in one step once it is on disk; a crash at any call leaves the old
// file or the new one. Unpublished, it is removed by the destructor.
//
// Owner: move-only; borrows its FileOps. Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "file/file_ops.h"

namespace driftwood::file {

// Zeros are left out of the file in units of this many bytes: the block of common file systems.
inline constexpr size_t kHoleBytes = 4096;

// Temporary names begin with this: what a crash leaves behind in a directory may be removed when nothing writes there.
inline constexpr std::string_view kTemporaryPrefix = ".driftwood-";

bool all_zero(std::span<const uint8_t> bytes);

class AtomicFile {
  public:
    // A temporary file of `size_bytes` zeros that will become `path`.
    static Result<AtomicFile> create(FileOps& ops, const std::string& path, uint64_t size_bytes);

    AtomicFile(AtomicFile&& other) noexcept;
    AtomicFile& operator=(AtomicFile&&) = delete;
    ~AtomicFile();

    // Writes `bytes` at `offset`, a multiple of kHoleBytes; blocks of zeros are left as holes. Write each range once.
    Result<void> write(uint64_t offset, std::span<const uint8_t> bytes);

    struct PublishOptions {
        bool replace = true;  // off: kAlreadyExists when `path` exists
        bool durable = true;  // off: no fsync
    };
    // Makes it `path`. Returns the bytes it occupies on disk. After a failure `path` is the old file or the new one,
    // whole. Call once.
    Result<uint64_t> publish(PublishOptions options);

  private:
    AtomicFile(FileOps& ops, std::string path);
    Result<uint64_t> close_synced(PublishOptions options);
    Error named(Error failure) const;

    FileOps* ops_;
    std::string path_;
    std::string directory_;
    std::string temporary_;  // empty: nothing to remove
    int fd_ = -1;
};

}  // namespace driftwood::file
