#include "file/private_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <type_traits>
#include <utility>

#include "file/atomic_file.h"
#include "file/private_file.h"

namespace driftwood::file {
namespace {

// A file: these 80 bytes, then the value.
struct EntryHeader {
    std::array<char, 8> magic = {'D', 'W', 'C', 'A', 'C', 'H', 'E', '1'};
    Hash key{};
    Hash value_hash{};
    uint64_t value_bytes = 0;
};
static_assert(sizeof(EntryHeader) == 80 && std::is_trivially_copyable_v<EntryHeader>);

constexpr std::time_t kAbandonedSeconds = 3600;  // a temporary file this old belongs to a process that died

struct CloseDirectory {
    void operator()(DIR* directory) const { closedir(directory); }
};

bool read_exactly(int fd, uint64_t offset, std::span<uint8_t> out) {
    while (!out.empty()) {
        const ssize_t got = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        out = out.subspan(static_cast<size_t>(got));
        offset += static_cast<uint64_t>(got);
    }
    return true;
}

// The value in the file of ours `fd`, if it is whole and stored under `key`.
std::optional<std::vector<uint8_t>> read_entry(int fd, const Hash& key, uint64_t limit_bytes) {
    struct stat st {};
    EntryHeader header;
    const EntryHeader want{.key = key};
    if (fstat(fd, &st) != 0) return std::nullopt;
    if (!read_exactly(fd, 0, {reinterpret_cast<uint8_t*>(&header), sizeof header})) return std::nullopt;
    if (header.magic != want.magic || header.key != key || header.value_bytes > limit_bytes ||
        static_cast<uint64_t>(st.st_size) != sizeof header + header.value_bytes) {
        return std::nullopt;
    }
    std::vector<uint8_t> value(header.value_bytes);
    if (!read_exactly(fd, sizeof header, value) || blake3(value) != header.value_hash) return std::nullopt;
    return value;
}

bool is_entry(std::string_view name) { return hash_from_hex(name).ok(); }

}  // namespace

Result<PrivateCache> PrivateCache::open(const std::string& directory, uint64_t limit_bytes) {
    std::error_code ignored;  // whatever is wrong with a parent, opening the directory says so
    std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
    DW_ASSIGN(Fd open, open_private_directory(directory));
    return PrivateCache(directory, std::move(open), limit_bytes);
}

std::optional<std::vector<uint8_t>> PrivateCache::load(const Hash& key) const {
    const std::string name = to_hex(key);
    const Fd file(openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.valid() || !is_committed_by_us(file.get())) return std::nullopt;
    auto value = read_entry(file.get(), key, limit_bytes_);
    if (value) {
        futimens(file.get(), nullptr);  // used now; a cache that cannot note that still works
    } else {
        unlinkat(directory_.get(), name.c_str(), 0);
    }
    return value;
}

Result<void> PrivateCache::store(const Hash& key, std::span<const uint8_t> value) const {
    EntryHeader header{.key = key, .value_hash = blake3(value), .value_bytes = value.size()};
    std::vector<uint8_t> bytes(sizeof header + value.size());
    if (bytes.size() > limit_bytes_) {
        return error(ErrorCode::kLimit, "[file.cache] " + path_ + ": an entry of " + std::to_string(bytes.size()) +
                                            " bytes does not fit into its " + std::to_string(limit_bytes_));
    }
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy(value.begin(), value.end(), bytes.begin() + sizeof header);
    SystemFileOps ops;
    DW_ASSIGN(AtomicFile file, AtomicFile::create(ops, path_ + "/" + to_hex(key), bytes.size()));
    DW_TRY(file.write(0, bytes));
    DW_TRY(file.publish({.replace = true, .durable = false}));  // after a crash of the machine its hash finds out
    evict();
    return {};
}

// Other processes may evict at the same time: what is gone already is gone.
void PrivateCache::evict() const {
    struct Entry {
        std::string name;
        timespec used;
        uint64_t bytes;
    };
    const int again = openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, CloseDirectory> listing(again < 0 ? nullptr : fdopendir(again));  // owns it
    if (!listing) return;
    std::vector<Entry> entries;
    uint64_t total = 0;
    while (const dirent* found = readdir(listing.get())) {
        const std::string name = found->d_name;
        struct stat st {};
        if (fstatat(directory_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
        if (name.starts_with(kTemporaryPrefix) && std::time(nullptr) - st.st_mtim.tv_sec > kAbandonedSeconds) {
            unlinkat(directory_.get(), name.c_str(), 0);
        }
        if (!is_entry(name)) continue;
        entries.push_back({name, st.st_mtim, static_cast<uint64_t>(st.st_size)});
        total += entries.back().bytes;
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return std::pair(a.used.tv_sec, a.used.tv_nsec) < std::pair(b.used.tv_sec, b.used.tv_nsec);
    });
    for (const Entry& oldest : entries) {
        if (total <= limit_bytes_) break;
        unlinkat(directory_.get(), oldest.name.c_str(), 0);
        total -= oldest.bytes;
    }
}

}  // namespace driftwood::file
