// Parking: images of idle actors whose memory is wanted by others, in one directory of the node's own. An actor goes on
// from its image with the same bits. What is still parked at the end goes with the Parking.
//
// Threads: the engine's submitting thread.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "node/node.h"

namespace driftwood::node {

class Parking {
  public:
    // Makes an actor of an image that park() wrote, as Node::thaw does.
    using Thaw = std::function<Result<LiveActor>(const std::string& image)>;

    // The directory is there and nobody else's.
    Parking(std::string directory, Thaw thaw) : directory_(std::move(directory)), thaw_(std::move(thaw)) {}
    ~Parking();
    Parking(const Parking&) = delete;
    Parking& operator=(const Parking&) = delete;

    // Writes the actor's image and lets the actor go. On an error it stays as it is.
    Result<void> park(uint64_t key, LiveActor& live);
    // The actor again; its image goes. On an error (kLimit: there is no room for its KV now) the image stays.
    Result<LiveActor> fetch(uint64_t key);
    void forget(uint64_t key);  // without its actor
    bool has(uint64_t key) const { return parked_.contains(key); }

  private:
    std::string path(uint64_t key) const { return directory_ + "/" + std::to_string(key) + ".actor"; }

    std::string directory_;
    Thaw thaw_;
    std::set<uint64_t> parked_;
};

}  // namespace driftwood::node
