#include "file/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "memory/huge_pages.h"

namespace driftwood::file {

namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
constexpr uint64_t kMostThreads = 8;  // more do not read a page cache faster, nor most disks

int64_t changed_ns(const struct stat& st) {
#if defined(__APPLE__)
    const timespec& at = st.st_mtimespec;
#else
    const timespec& at = st.st_mtim;
#endif
    return int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

using Work = std::function<Result<void>(uint64_t begin, uint64_t end)>;

// Does [begin, end) in pieces, on several threads of which the caller's is one. The first failure ends it.
[[maybe_unused]] Result<void> in_pieces(uint64_t begin, uint64_t end, const MappedFile::Progress& progress,
                                        const Work& work) {
    std::atomic<uint64_t> next = begin;
    std::atomic<uint64_t> done = 0;
    std::mutex mutex;
    std::optional<Error> failure;
    const auto take = [&](const MappedFile::Progress& tell) {
        for (uint64_t at = 0; (at = next.fetch_add(kPieceBytes)) < end;) {
            const uint64_t stop = std::min(end, at + kPieceBytes);
            if (auto one = work(at, stop); !one.ok()) {
                next = end;
                const std::lock_guard lock(mutex);
                if (!failure) failure = std::move(one).error();
                return;
            }
            done += stop - at;
            if (tell) tell(begin + done);
        }
    };
    const uint64_t pieces = (end - begin + kPieceBytes - 1) / kPieceBytes;
    const uint64_t threads = std::min({pieces, kMostThreads, uint64_t{std::thread::hardware_concurrency()}});
    std::vector<std::thread> helpers;
    for (uint64_t i = 1; i < threads; ++i) {
        try {
            helpers.emplace_back(take, MappedFile::Progress());
        } catch (const std::system_error&) {
            break;  // the others do its share
        }
    }
    take(progress);
    for (std::thread& helper : helpers) helper.join();
    if (failure) return *std::move(failure);
    if (progress) progress(end);
    return {};
}

[[maybe_unused]] Error became_shorter(const std::string& path) {
    return error(ErrorCode::kIo, "[file.read] " + path + ": became shorter while it was read");
}

[[maybe_unused]] Result<void> read_at(int fd, const std::string& path, uint8_t* to, uint64_t begin, uint64_t end) {
    while (begin < end) {
        const ssize_t got = pread(fd, to, end - begin, static_cast<off_t>(begin));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_error("file.read", path);
        if (got == 0) return became_shorter(path);
        to += got;
        begin += static_cast<uint64_t>(got);
    }
    return {};
}

#if defined(__linux__)
// Anonymous memory that may take the place of a map: a page lies as far behind a multiple of kHugePage as there, so
// that huge pages move as they are.
class Scratch {
  public:
    static std::optional<Scratch> make(const uint8_t* place, size_t size) {
        const size_t whole = size + memory::kHugePage;
        void* const at = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return std::nullopt;
        const auto base = reinterpret_cast<uintptr_t>(at);
        const size_t skip = (reinterpret_cast<uintptr_t>(place) - base) % memory::kHugePage;
        Scratch out(static_cast<uint8_t*>(at) + skip, size);
        if (skip > 0) CHECK(munmap(at, skip) == 0);
        if (skip < memory::kHugePage) CHECK(munmap(out.data_ + size, memory::kHugePage - skip) == 0);
        memory::prefer_huge_pages(out.data_, size);
        return out;
    }
    Scratch(Scratch&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
    ~Scratch() {
        if (data_ != nullptr) CHECK(munmap(data_, size_) == 0);
    }
    uint8_t* data() { return data_; }
    bool replace(uint8_t* place) {
        if (mprotect(data_, size_, PROT_READ) != 0) return false;
        if (mremap(data_, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED) return false;
        data_ = nullptr;
        return true;
    }

  private:
    Scratch(uint8_t* data, size_t size) : data_(data), size_(size) {}
    uint8_t* data_;
    size_t size_;  // whole pages
};
#endif

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
    file.changed_ns_ = changed_ns(st);
    if (file.size_ == 0) return file;
    void* at = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return errno_error("file.open", path);
    file.data_ = static_cast<const uint8_t*>(at);
    memory::prefer_huge_pages(at, file.size_);
    return file;
}

Result<bool> MappedFile::populate([[maybe_unused]] uint64_t begin, [[maybe_unused]] uint64_t end,
                                  [[maybe_unused]] const Progress& progress) {
#if defined(__linux__) && defined(MADV_POPULATE_READ)
    std::atomic<bool> able = true;
    CHECK(begin <= end && end <= size_);
    DW_TRY(in_pieces(begin, end, progress, [&](uint64_t from, uint64_t to) -> Result<void> {
        while (able && madvise(const_cast<uint8_t*>(data_) + from, to - from, MADV_POPULATE_READ) != 0) {
            if (errno == EINVAL) able = false;  // kernels before 5.14
            if (errno == EFAULT) {              // reading there would be a signal
                DW_TRY(check_unchanged());
                return error(ErrorCode::kIo, "[file.read] " + path_ + ": the system cannot read all of it");
            }
            if (able && errno != EINTR && errno != EAGAIN) return errno_error("file.read", path_);
        }
        return {};
    }));
    return able.load();
#else
    return false;
#endif
}

Result<void> MappedFile::check_unchanged() const {
    struct stat st {};
    if (fstat(fd(), &st) != 0) return errno_error("file.read", path_);
    if (static_cast<uint64_t>(st.st_size) == size_ && changed_ns(st) == changed_ns_) return {};
    return error(ErrorCode::kIo, "[file.read] " + path_ + ": changed while it was read (" + std::to_string(size_) +
                                     " bytes when it was opened, now " + std::to_string(st.st_size) +
                                     "); load it again when nobody writes it");
}

Result<void> MappedFile::copy_into_memory([[maybe_unused]] const Progress& progress) {
    if (size_ == 0 || copied_) return {};
#if defined(__linux__)
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    auto scratch = Scratch::make(data_, (size_ + page - 1) / page * page);
    if (!scratch) {
        return error(ErrorCode::kLimit, "[file.read] " + path_ + ": the system gives no " + std::to_string(size_) +
                                            " bytes of memory for a copy");
    }
    DW_TRY(in_pieces(0, size_, progress, [&](uint64_t from, uint64_t to) {
        return read_at(fd(), path_, scratch->data() + from, from, to);
    }));
    DW_TRY(check_unchanged());
    if (!scratch->replace(const_cast<uint8_t*>(data_))) {
        const Error failed = errno_error("file.read", path_ + ": a copy in its place");
        data_ = nullptr;  // the system may have unmapped it before it failed: the place may be somebody else's by now
        size_ = 0;
        return failed;
    }
    copied_ = true;
    return {};
#else
    return error(ErrorCode::kUnsupported, "[file.read] " + path_ + ": only Linux can put a copy in a map's place");
#endif
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      changed_ns_(other.changed_ns_),
      copied_(other.copied_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    if (this == &other) return *this;
    unmap();
    path_ = std::move(other.path_);
    file_ = std::move(other.file_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    changed_ns_ = other.changed_ns_;
    copied_ = other.copied_;
    return *this;
}

MappedFile::~MappedFile() { unmap(); }

void MappedFile::unmap() {
    if (data_ != nullptr) CHECK(munmap(const_cast<uint8_t*>(data_), size_) == 0);
    data_ = nullptr;
}

}  // namespace driftwood::file
