#include "node/parking.h"

#include <filesystem>

#include "base/check.h"

namespace driftwood::node {

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

}  // namespace driftwood::node
