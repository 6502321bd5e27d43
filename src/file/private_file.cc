#include "file/private_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "base/ports.h"
#include "file/atomic_file.h"
#include "file/hash.h"
#include "memory/region.h"

namespace driftwood::file {
namespace {

constexpr mode_t kPermissionBits = 07777;
constexpr mode_t kPrivateFile = 0600;
constexpr mode_t kPrivateDirectory = 0700;
constexpr size_t kCopyBytes = size_t{1024} * 1024;

bool is_private_file(const struct stat& st) {
    return S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & kPermissionBits) == kPrivateFile;
}

// Copies [offset, offset + length) through this process, where the kernel cannot do it.
Result<void> copy_by_hand(int from, int to, uint64_t offset, uint64_t length) {
    std::vector<uint8_t> buffer(std::min<uint64_t>(length, kCopyBytes));
    SystemFileOps ops;
    while (length > 0) {
        const size_t want = std::min<uint64_t>(length, buffer.size());
        const ssize_t got = pread(from, buffer.data(), want, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_error("file.import", "read");
        if (got == 0) return error(ErrorCode::kIo, "[file.import] the file became shorter while it was read");
        DW_TRY(ops.write(to, offset, {buffer.data(), static_cast<size_t>(got)}));
        offset += static_cast<uint64_t>(got);
        length -= static_cast<uint64_t>(got);
    }
    return {};
}

Result<void> copy_range(int from, int to, uint64_t offset, uint64_t length) {
    while (length > 0) {
        off_t in = static_cast<off_t>(offset);
        off_t out = in;
        const ssize_t copied = copy_file_range(from, &in, to, &out, length, 0);
        if (copied < 0 && errno == EINTR) continue;
        if (copied <= 0) return copy_by_hand(from, to, offset, length);  // other file systems, older kernels
        offset += static_cast<uint64_t>(copied);
        length -= static_cast<uint64_t>(copied);
    }
    return {};
}

// Copies what is not a hole.
Result<void> copy_data(int from, int to, uint64_t size) {
    uint64_t at = 0;
    while (at < size) {
        const off_t data = lseek(from, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO) return {};                 // nothing but a hole is left
        if (data < 0) return copy_range(from, to, at, size - at);  // this file system does not say
        const off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0) return errno_error("file.import", "SEEK_HOLE");
        const uint64_t end = std::min(static_cast<uint64_t>(hole), size);
        if (static_cast<uint64_t>(data) >= end) return {};
        DW_TRY(copy_range(from, to, static_cast<uint64_t>(data), end - static_cast<uint64_t>(data)));
        at = end;
    }
    return {};
}

Result<ImportMethod> clone_or_copy(int from, int to, uint64_t size) {
    if (ioctl(to, FICLONE, from) == 0) return ImportMethod::kReflinked;
    if (ftruncate(to, static_cast<off_t>(size)) != 0) return errno_error("file.import", "ftruncate");
    DW_TRY(copy_data(from, to, size));
    return ImportMethod::kCopied;
}

Result<uint64_t> file_size(int fd, const std::string& what) {
    struct stat st {};
    if (fstat(fd, &st) != 0) return errno_error("file.import", what);
    if (!S_ISREG(st.st_mode)) {
        return error(ErrorCode::kInvalidArgument, "[file.import] " + what + ": not a regular file");
    }
    return static_cast<uint64_t>(st.st_size);
}

}  // namespace

bool is_committed_by_us(int fd) {
    struct stat st {};
    return fstat(fd, &st) == 0 && is_private_file(st);
}

bool is_committed_by_us(const std::string& path) {
    struct stat st {};
    return lstat(path.c_str(), &st) == 0 && is_private_file(st);
}

Result<Fd> open_private_directory(const std::string& path) {
    if (mkdir(path.c_str(), kPrivateDirectory) != 0 && errno != EEXIST) return errno_error("file.private", path);
    Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat st {};
    const bool is_directory = directory.valid() && fstat(directory.get(), &st) == 0;
    if (!is_directory && errno != ENOTDIR && errno != ELOOP && errno != EACCES)
        return errno_error("file.private", path);
    if (!is_directory || st.st_uid != geteuid() || (st.st_mode & kPermissionBits & ~kPrivateDirectory) != 0) {
        return error(
            ErrorCode::kInvalidArgument,
            "[file.private] " + path + ": want a directory of your own that nobody else may enter (mode 0700)");
    }
    return directory;
}

std::string_view import_method_name(ImportMethod method) {
    return method == ImportMethod::kReflinked ? "reflinked" : "copied";
}

Result<Imported> import_file(const std::string& source, const std::string& private_directory) {
    const Fd from(::open(source.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!from.valid()) return errno_error("file.import", source);
    DW_ASSIGN(const uint64_t size, file_size(from.get(), source));
    DW_TRY(open_private_directory(private_directory));
    Hash random;
    SystemEntropy().fill(random);
    Imported imported;
    imported.path = private_directory + "/import-" + to_hex(random).substr(0, 32) + ".safetensors";
    SystemFileOps ops;
    DW_ASSIGN(const int created, ops.create(imported.path));
    const Fd to(created);
    Result<ImportMethod> method = clone_or_copy(from.get(), to.get(), size);
    Result<uint64_t> copied = file_size(to.get(), imported.path);
    if (!method.ok() || !copied.ok()) {
        ::unlink(imported.path.c_str());
        return method.ok() ? std::move(copied).error() : std::move(method).error();
    }
    imported.method = *method;
    imported.size_bytes = *copied;
    return imported;
}

Result<Fd> memory_file(const std::string& name, std::span<const uint8_t> bytes) {
    Fd file(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file.valid()) return errno_error("file.memory_file", name);
    SystemFileOps ops;
    DW_TRY(ops.truncate(file.get(), memory::round_up_to_page(bytes.size())));
    for (size_t at = 0; at < bytes.size(); at += kHoleBytes) {
        const std::span<const uint8_t> block = bytes.subspan(at, std::min(kHoleBytes, bytes.size() - at));
        if (!all_zero(block)) DW_TRY(ops.write(file.get(), at, block));
    }
    if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
        return errno_error("file.memory_file", name + ": seal");
    }
    return file;
}

}  // namespace driftwood::file
