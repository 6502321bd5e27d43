#include "file/atomic_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/ports.h"
#include "file/hash.h"

namespace driftwood::file {
namespace {

std::string directory_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

std::string temporary_name() {
    Hash random;
    SystemEntropy().fill(random);
    return std::string(kTemporaryPrefix) + to_hex(random).substr(0, 32) + ".tmp";
}

}  // namespace

bool all_zero(std::span<const uint8_t> bytes) {
    // Equal to itself one byte later and zero at first: memcmp walks it at full speed and stops at the first
    // difference.
    return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

AtomicFile::AtomicFile(FileOps& ops, std::string path)
    : ops_(&ops), path_(std::move(path)), directory_(directory_of(path_)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : ops_(other.ops_),
      path_(std::move(other.path_)),
      directory_(std::move(other.directory_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
    // The failure that led here is already being reported; a name that cannot be removed stays as a leftover.
    if (fd_ >= 0) static_cast<void>(ops_->close(fd_).ok());
    if (!temporary_.empty()) static_cast<void>(ops_->unlink(temporary_).ok());
}

Error AtomicFile::named(Error failure) const {
    failure.message = "[file.commit] " + path_ + ": " + failure.message;
    return failure;
}

Result<AtomicFile> AtomicFile::create(FileOps& ops, const std::string& path, uint64_t size_bytes) {
    AtomicFile file(ops, path);
    if (path.empty()) return error(ErrorCode::kInvalidArgument, "[file.commit] the name of the file is empty");
    if (ops.is_special(path)) {  // a rename would put the file in its place: /dev/null must stay what it is
        return error(ErrorCode::kInvalidArgument,
                     "[file.commit] " + path + ": is there and not a regular file: choose another name");
    }
    const std::string temporary = file.directory_ + "/" + temporary_name();
    Result<int> fd = ops.create(temporary);
    if (!fd.ok()) return file.named(std::move(fd).error());
    file.fd_ = *fd;
    file.temporary_ = temporary;
    Result<void> sized = ops.truncate(file.fd_, size_bytes);
    if (!sized.ok()) return file.named(std::move(sized).error());
    return file;
}

Result<void> AtomicFile::write(uint64_t offset, std::span<const uint8_t> bytes) {
    CHECK(offset % kHoleBytes == 0 && fd_ >= 0);
    const auto block_is_zero = [&](size_t at) {
        return all_zero(bytes.subspan(at, std::min(kHoleBytes, bytes.size() - at)));
    };
    for (size_t at = 0; at < bytes.size(); at += kHoleBytes) {
        const size_t start = at;
        while (at < bytes.size() && !block_is_zero(at)) at += kHoleBytes;
        const size_t end = std::min(at, bytes.size());
        if (end == start) continue;
        Result<void> wrote = ops_->write(fd_, offset + start, bytes.subspan(start, end - start));
        if (!wrote.ok()) return named(std::move(wrote).error());
    }
    return {};
}

Result<uint64_t> AtomicFile::close_synced(PublishOptions options) {
    if (options.durable) DW_TRY(ops_->sync(fd_));
    DW_ASSIGN(const uint64_t disk_bytes, ops_->disk_bytes(fd_));
    DW_TRY(ops_->close(std::exchange(fd_, -1)));
    return disk_bytes;
}

Result<uint64_t> AtomicFile::publish(PublishOptions options) {
    CHECK(fd_ >= 0);
    Result<uint64_t> disk_bytes = close_synced(options);
    if (!disk_bytes.ok()) return named(std::move(disk_bytes).error());
    if (options.replace) {
        Result<void> renamed = ops_->rename(temporary_, path_);
        if (!renamed.ok()) return named(std::move(renamed).error());
        temporary_.clear();
    } else {
        // rename would replace; a second name does not. The first one goes with the destructor's unlink if this fails.
        Result<void> linked = ops_->link(temporary_, path_);
        if (!linked.ok()) return named(std::move(linked).error());
        Result<void> unlinked = ops_->unlink(std::exchange(temporary_, {}));
        if (!unlinked.ok()) return named(std::move(unlinked).error());
    }
    if (options.durable) {
        Result<void> synced = ops_->sync_directory(directory_);
        if (!synced.ok()) return named(std::move(synced).error());
    }
    return disk_bytes;
}

}  // namespace driftwood::file
