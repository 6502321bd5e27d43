// SharedFile: an open file that several Regions map. The descriptor closes with the last of them, so that ten thousand
// views of one birth image cost one descriptor.
#pragma once

#include <memory>

#include "base/result.h"

namespace driftwood::memory {

class OpenFile {
  public:
    explicit OpenFile(int fd) : fd_(fd) {}  // takes it
    ~OpenFile();
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    int fd() const { return fd_; }

  private:
    const int fd_;
};

using SharedFile = std::shared_ptr<const OpenFile>;

// Shared memory without a name, `size_bytes` of zeros. kUnsupported where the system has none (memfd_create).
Result<SharedFile> shared_memory(size_t size_bytes);

}  // namespace driftwood::memory
