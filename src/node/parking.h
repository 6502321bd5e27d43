// Parking: images of idle actors whose memory is wanted by others, in one directory of the node's own. An actor goes on
// from its image with the same bits. What is still parked at the end goes with the Parking. Who is parked when is the
// scheduler's to do (scheduler.h), by the policy that is kept here.
//
// Threads: the engine's submitting thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/ports.h"
#include "file/fd.h"
#include "node/node.h"

namespace driftwood::node {

// Beside those whose KV blocks somebody wants, who are always parked.
struct ParkingPolicy {
    std::optional<int64_t> idle_ns;        // who has waited for a message so long
    std::optional<uint64_t> memory_bytes;  // who has waited longest, while guests' memory and KV take more than this
};

// A directory for one process's images, gone with it. It is locked while the process lives: what one leaves that was
// killed goes when the next one makes a directory beside it.
class ParkingDirectory {
  public:
    // A new one, private to this user, in the directory of that name, or with "auto" in ~/.cache/driftwood/parked
    // ($XDG_CACHE_HOME if set). Both are made if they are not there.
    static Result<ParkingDirectory> create(const std::string& option);
    ParkingDirectory(ParkingDirectory&& other) noexcept
        : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
    ParkingDirectory& operator=(ParkingDirectory&&) = delete;
    ~ParkingDirectory();
    const std::string& path() const { return path_; }

  private:
    ParkingDirectory(std::string path, file::Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    std::string path_;
    file::Fd lock_;
};

class Parking {
  public:
    // Makes an actor of an image that park() wrote, as Node::thaw does.
    using Thaw = std::function<Result<LiveActor>(const std::string& image)>;

    // The directory is there and nobody else's. The clock, which says how long somebody has waited, outlives the
    // Parking.
    Parking(std::string directory, Thaw thaw, Clock& clock, const ParkingPolicy& policy = {})
        : directory_(std::move(directory)), thaw_(std::move(thaw)), clock_(clock), policy_(policy) {}
    ~Parking();
    Parking(const Parking&) = delete;
    Parking& operator=(const Parking&) = delete;

    // Writes the actor's image and lets the actor go. On an error it stays as it is.
    Result<void> park(uint64_t key, LiveActor& live);
    // The actor again; its image goes. On an error (kLimit: there is no room for its KV now) the image stays.
    Result<LiveActor> fetch(uint64_t key);
    void forget(uint64_t key);  // without its actor
    // Of an actor that could not be fetched: the image outlives the Parking, and its directory too. Its name.
    std::string keep(uint64_t key);
    bool has(uint64_t key) const { return parked_.contains(key); }
    const ParkingPolicy& policy() const { return policy_; }
    int64_t now_ns() { return clock_.now_ns(); }

  private:
    std::string path(uint64_t key) const { return directory_ + "/" + std::to_string(key) + ".actor"; }

    std::string directory_;
    Thaw thaw_;
    Clock& clock_;
    ParkingPolicy policy_;
    std::set<uint64_t> parked_;
};

}  // namespace driftwood::node
