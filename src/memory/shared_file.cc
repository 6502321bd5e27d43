#include "memory/shared_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>

namespace driftwood::memory {

OpenFile::~OpenFile() {
    if (fd_ >= 0) close(fd_);
}

Result<SharedFile> shared_memory([[maybe_unused]] size_t size_bytes) {
#if defined(__linux__)
    const std::string what = std::to_string(size_bytes) + " bytes";
    const int fd = memfd_create("driftwood-region", MFD_CLOEXEC);
    if (fd < 0) return errno_error("memory.share", what);
    auto file = std::make_shared<const OpenFile>(fd);
    if (ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) return errno_error("memory.share", what);
    return SharedFile(std::move(file));
#else
    return error(ErrorCode::kUnsupported, "[memory.share] shared memory needs memfd_create, which only Linux has");
#endif
}

}  // namespace driftwood::memory
