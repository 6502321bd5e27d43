// The file-system calls of a commit, as a port: tests put a model of a disk behind it that loses power at any call.
// Every failure is kIo (kAlreadyExists from link and create, kNotFound where a path is missing) and names the path.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace driftwood::file {

class FileOps {
  public:
    virtual ~FileOps() = default;
    // A new, empty file of mode 0600 exactly, open for writing; never an existing one. The caller closes it.
    virtual Result<int> create(const std::string& path) = 0;
    // Makes the file `size` bytes long; what was not written reads as zeros and takes no space.
    virtual Result<void> truncate(int fd, uint64_t size) = 0;
    virtual Result<void> write(int fd, uint64_t offset, std::span<const uint8_t> bytes) = 0;
    virtual Result<uint64_t> disk_bytes(int fd) = 0;
    // Returns when the file's content and length would survive a crash.
    virtual Result<void> sync(int fd) = 0;
    // Closes `fd`, whatever it returns.
    virtual Result<void> close(int fd) = 0;
    // Replaces `to` in one step.
    virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
    // A second name for the file; fails when `to` exists.
    virtual Result<void> link(const std::string& from, const std::string& to) = 0;
    virtual Result<void> unlink(const std::string& path) = 0;
    // Returns when the names in the directory would survive a crash.
    virtual Result<void> sync_directory(const std::string& path) = 0;
    virtual bool exists(const std::string& path) = 0;
    // Something other than a regular file (a device, a pipe, a directory) bears this name; a link is what it leads to.
    virtual bool is_special(const std::string& path) = 0;
};

// The operating system's. Stateless; any thread.
class SystemFileOps final : public FileOps {
  public:
    Result<int> create(const std::string& path) override;
    Result<void> truncate(int fd, uint64_t size) override;
    Result<void> write(int fd, uint64_t offset, std::span<const uint8_t> bytes) override;
    Result<uint64_t> disk_bytes(int fd) override;
    Result<void> sync(int fd) override;
    Result<void> close(int fd) override;
    Result<void> rename(const std::string& from, const std::string& to) override;
    Result<void> link(const std::string& from, const std::string& to) override;
    Result<void> unlink(const std::string& path) override;
    Result<void> sync_directory(const std::string& path) override;
    bool exists(const std::string& path) override;
    bool is_special(const std::string& path) override;
};

}  // namespace driftwood::file
