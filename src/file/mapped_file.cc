#include "file/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

namespace driftwood::file {

namespace {

// Weights are read from one end to the other for every token, and with pages of 4 KiB up to a third of that time goes
// into looking up addresses. A kernel that keeps files in large pages reads them so when asked; others go on as they
// were.
void prefer_huge_pages([[maybe_unused]] void* at, [[maybe_unused]] size_t size) {
#if defined(__linux__)
    constexpr size_t kHugePage = size_t{2} << 20;
    if (size >= kHugePage) static_cast<void>(madvise(at, size, MADV_HUGEPAGE));
#endif
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
    MappedFile file;
    file.path_ = path;
    // Without O_NONBLOCK, opening a pipe waits for its other end.
    const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return errno_error("file.open", path);
    file.file_ = std::make_shared<const memory::OpenFile>(fd);
    struct stat st {};
    if (fstat(fd, &st) != 0) return errno_error("file.open", path);
    if (!S_ISREG(st.st_mode)) {
        return error(ErrorCode::kInvalidArgument, "[file.open] " + path + ": not a regular file");
    }
    file.size_ = static_cast<size_t>(st.st_size);
    if (file.size_ == 0) return file;
    void* at = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return errno_error("file.open", path);
    file.data_ = static_cast<const uint8_t*>(at);
    prefer_huge_pages(at, file.size_);
    return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    if (this == &other) return *this;
    unmap();
    path_ = std::move(other.path_);
    file_ = std::move(other.file_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
}

MappedFile::~MappedFile() { unmap(); }

void MappedFile::unmap() {
    if (data_ != nullptr) CHECK(munmap(const_cast<uint8_t*>(data_), size_) == 0);
    data_ = nullptr;
}

}  // namespace driftwood::file
