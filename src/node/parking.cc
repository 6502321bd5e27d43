#include "node/parking.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/check.h"

namespace driftwood::node {

namespace {

std::filesystem::path default_directory() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "driftwood" / "parked";
    if (home != nullptr && *home == '/') return std::filesystem::path(home) / ".cache" / "driftwood" / "parked";
    std::error_code none;
    return std::filesystem::temp_directory_path(none) / "driftwood-parked";
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
    std::string path = (parent / "XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) return failed(std::strerror(errno));
    return ParkingDirectory(std::move(path));
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
    return path(key);
}

}  // namespace driftwood::node
