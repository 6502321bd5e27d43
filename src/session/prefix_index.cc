#include "session/prefix_index.h"

#include <cstring>

#include "base/check.h"

namespace driftwood::session {

PrefixKey prefix_root(const TrustDomain& domain, const file::Hash& compute_identity) {
    file::Hasher out;
    out.field("driftwood prefix 1");
    out.field(domain.id);
    out.field(compute_identity);
    return out.finish();
}

PrefixKey prefix_key(const PrefixKey& before, std::span<const uint32_t> tokens) {
    CHECK(tokens.size() == compute::kBlockTokens);
    std::array<uint8_t, sizeof(PrefixKey) + compute::kBlockTokens * sizeof(uint32_t)> bytes;
    std::memcpy(bytes.data(), before.data(), before.size());
    std::memcpy(bytes.data() + before.size(), tokens.data(), tokens.size_bytes());
    return file::blake3(bytes);
}

std::optional<compute::BlockId> PrefixIndex::find(const PrefixKey& key) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return std::nullopt;
    return found->second;
}

void PrefixIndex::add(const PrefixKey& key, compute::BlockId block) {
    CHECK(by_key_.emplace(key, block).second);
    CHECK(by_block_.emplace(block, Entry{.key = key}).second);
}

void PrefixIndex::remove(compute::BlockId block) {
    const auto found = by_block_.find(block);
    if (found == by_block_.end()) return;
    idle_.erase(found->second.idle_since);
    by_key_.erase(found->second.key);
    by_block_.erase(found);
}

void PrefixIndex::let_go(compute::BlockId block) {
    Entry& entry = by_block_.at(block);
    CHECK(entry.idle_since == 0);
    entry.idle_since = ++let_go_;
    idle_.emplace(entry.idle_since, block);
}

void PrefixIndex::take_up(compute::BlockId block) {
    Entry& entry = by_block_.at(block);
    CHECK(idle_.erase(entry.idle_since) == 1);
    entry.idle_since = 0;
}

std::optional<compute::BlockId> PrefixIndex::oldest_idle() const {
    if (idle_.empty()) return std::nullopt;
    return idle_.begin()->second;
}

}  // namespace driftwood::session
