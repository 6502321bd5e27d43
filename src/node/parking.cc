#include "node/parking.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "base/check.h"
#include "file/atomic_file.h"

namespace driftwood::node {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUniqueName = "XXXXXX";  // mkdtemp's
constexpr std::string_view kImageSuffix = ".actor";
constexpr std::string_view kKeptSuffix = ".kept.actor";

std::filesystem::path default_directory() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "driftwood" / "parked";
    if (home != nullptr && *home == '/') return std::filesystem::path(home) / ".cache" / "driftwood" / "parked";
    std::error_code none;
    return std::filesystem::temp_directory_path(none) / "driftwood-parked";
}

// A lock is known on this machine alone, also where others see the directory: names say whose it is.
std::string directory_prefix() {
    char host[HOST_NAME_MAX + 1] = {};
    static_cast<void>(gethostname(host, HOST_NAME_MAX));
    return "parked-" + std::string(host) + "-";
}

// The directory, locked for as long as it is open, so that others see that its process lives; invalid where somebody
// else has it.
file::Fd lock_directory(const std::string& path) {
    file::Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat opened {
    }, named{};
    if (!fd.valid() || flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || fstat(fd.get(), &opened) != 0 ||
        stat(path.c_str(), &named) != 0 || opened.st_ino != named.st_ino || opened.st_uid != geteuid()) {
        return {};
    }
    return fd;
}

// An image that goes with its process: not one that was kept.
bool is_transient(const std::string& name) {
    if (name.starts_with(file::kTemporaryPrefix)) return true;
    const size_t digits = name.find_first_not_of("0123456789");
    return digits != 0 && digits != std::string::npos && name.substr(digits) == kImageSuffix;
}

std::vector<fs::path> entries_of(const fs::path& directory) {
    std::vector<fs::path> entries;
    std::error_code failed;
    for (fs::directory_iterator at(directory, failed), end; at != end && !failed; at.increment(failed)) {
        entries.push_back(at->path());
    }
    return entries;
}

// Removes what processes of this machine left that were killed.
void remove_abandoned(const fs::path& parent) {
    std::error_code ignored;
    const std::string prefix = directory_prefix();
    for (const fs::path& directory : entries_of(parent)) {
        const std::string name = directory.filename().string();
        if (!name.starts_with(prefix) || name.size() != prefix.size() + kUniqueName.size()) continue;
        const file::Fd ours = lock_directory(directory.string());
        if (!ours.valid()) continue;
        for (const fs::path& image : entries_of(directory)) {
            if (is_transient(image.filename().string())) fs::remove(image, ignored);
        }
        fs::remove(directory, ignored);  // fails where an image was kept
    }
}

}  // namespace

Result<ParkingDirectory> ParkingDirectory::create(const std::string& option) {
    const std::filesystem::path parent = option == "auto" ? default_directory() : std::filesystem::path(option);
    const auto failed = [&parent](const std::string& why) {
        return error(ErrorCode::kIo, "[node.park] directory " + parent.string() + ": " + why +
                                         "; name one that can be written, or turn parking off");
    };
    std::error_code problem;
    std::filesystem::create_directories(parent, problem);
    if (problem) return failed(problem.message());
    remove_abandoned(parent);
    constexpr int kAttempts = 10;  // another process may take a new directory for an abandoned one
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        std::string path = (parent / (directory_prefix() + std::string(kUniqueName))).string();
        if (mkdtemp(path.data()) == nullptr) return failed(std::strerror(errno));
        file::Fd lock = lock_directory(path);
        if (lock.valid()) return ParkingDirectory(std::move(path), std::move(lock));
        fs::remove(path, problem);
    }
    return failed("cannot be locked (flock)");
}

ParkingDirectory::~ParkingDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
}

Parking::~Parking() {
    while (!parked_.empty()) forget(*parked_.begin());
}

Result<void> Parking::park(uint64_t key, LiveActor& live) {
    CHECK(!has(key));
    // It need not survive a power loss: the actor would not have either.
    DW_TRY(live.actor->freeze(path(key), {.replace = true, .durable = false}));
    parked_.insert(key);
    live.actor.reset();
    live.module.reset();
    return {};
}

Result<LiveActor> Parking::fetch(uint64_t key) {
    CHECK(has(key));
    DW_ASSIGN(LiveActor live, thaw_(path(key)));
    forget(key);  // the name; what is mapped stays
    return live;
}

void Parking::forget(uint64_t key) {
    std::error_code ignored;
    std::filesystem::remove(path(key), ignored);
    parked_.erase(key);
}

std::string Parking::keep(uint64_t key) {
    CHECK(has(key));
    parked_.erase(key);
    const std::string kept = directory_ + "/" + std::to_string(key) + std::string(kKeptSuffix);
    std::error_code failed;
    fs::rename(path(key), kept, failed);
    return failed ? path(key) : kept;
}

}  // namespace driftwood::node
