// Region::Descriptor: an open file that the branches of a shareable Region map. For this folder only.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"
#include "memory/region.h"

namespace driftwood::memory {

struct Region::Descriptor {
    explicit Descriptor(int fd) : fd(fd) {}
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    // Another descriptor of the same open file.
    static Result<std::shared_ptr<const Descriptor>> copy(int fd);
    // Shared memory without a name, 0 bytes long. kUnsupported where the system has none (memfd_create).
    static Result<std::shared_ptr<const Descriptor>> memory();

    const int fd;
};

}  // namespace driftwood::memory
