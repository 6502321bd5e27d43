#include "file/file_ops.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "file/fd.h"

namespace driftwood::file {
namespace {

constexpr mode_t kPrivateMode = 0600;

// Calls `call` until a signal no longer interrupts it.
template <class Call>
auto uninterrupted(Call call) {
    auto result = call();
    while (result < 0 && errno == EINTR) result = call();
    return result;
}

int flush_to_disk(int fd) {
#ifdef F_FULLFSYNC  // macOS: fsync leaves the bytes in the drive's own cache
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
    return uninterrupted([&] { return ::fsync(fd); });
}

// The errno of creating a name.
Error name_error(std::string_view operation, const std::string& path) {
    if (errno == EEXIST)
        return error(ErrorCode::kAlreadyExists, "[" + std::string(operation) + "] " + path + ": exists");
    return errno_error(operation, path);
}

}  // namespace

Result<int> SystemFileOps::create(const std::string& path) {
    const int fd = uninterrupted(
        [&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kPrivateMode); });
    if (fd < 0) return name_error("create", path);
    if (fchmod(fd, kPrivateMode) != 0) {  // an unusual umask may have taken bits away
        const Error failure = errno_error("fchmod", path);
        ::close(fd);
        ::unlink(path.c_str());
        return failure;
    }
    return fd;
}

Result<void> SystemFileOps::truncate(int fd, uint64_t size) {
    if (uninterrupted([&] { return ::ftruncate(fd, static_cast<off_t>(size)); }) != 0) {
        return errno_error("ftruncate", std::to_string(size) + " bytes");
    }
    return {};
}

Result<void> SystemFileOps::write(int fd, uint64_t offset, std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
        const ssize_t wrote =
            uninterrupted([&] { return ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
        if (wrote <= 0) {
            if (wrote == 0) errno = ENOSPC;
            return errno_error("write", std::to_string(bytes.size()) + " bytes at " + std::to_string(offset));
        }
        offset += static_cast<uint64_t>(wrote);
        bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
    return {};
}

Result<uint64_t> SystemFileOps::disk_bytes(int fd) {
    struct stat st {};
    if (fstat(fd, &st) != 0) return errno_error("fstat", "the new file");
    constexpr uint64_t kStatBlock = 512;  // POSIX: the unit of st_blocks, whatever the file system
    return static_cast<uint64_t>(st.st_blocks) * kStatBlock;
}

Result<void> SystemFileOps::sync(int fd) {
    if (flush_to_disk(fd) != 0) return errno_error("fsync", "the new file");
    return {};
}

Result<void> SystemFileOps::close(int fd) {
    if (::close(fd) != 0 && errno != EINTR) return errno_error("close", "the new file");
    return {};
}

Result<void> SystemFileOps::rename(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) return errno_error("rename", to);
    return {};
}

Result<void> SystemFileOps::link(const std::string& from, const std::string& to) {
    if (::link(from.c_str(), to.c_str()) != 0) return name_error("link", to);
    return {};
}

Result<void> SystemFileOps::unlink(const std::string& path) {
    if (::unlink(path.c_str()) != 0) return errno_error("unlink", path);
    return {};
}

Result<void> SystemFileOps::sync_directory(const std::string& path) {
    const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid() || flush_to_disk(directory.get()) != 0) return errno_error("fsync", path);
    return {};
}

bool SystemFileOps::exists(const std::string& path) {
    struct stat st {};
    return lstat(path.c_str(), &st) == 0;
}

bool SystemFileOps::is_special(const std::string& path) {
    struct stat st {};
    return stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode);
}

}  // namespace driftwood::file
