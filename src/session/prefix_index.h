// PrefixIndex: which KV blocks hold the beginnings of conversations, so that a conversation that begins in the same way
// takes them over in place of computing them. The bits are the same either way (docs/numerics.md: any chunking, any
// neighbours), so what is found saves time and memory and changes nothing else.
//
// A full block's key is a blake3 chain: of the key of the block before it and its own tokens. So equal keys mean equal
// tokens from the first on, under one model, numerics and layout (its compute identity), inside one trust domain.
// Whoever fills the index vouches for blocks: full ones that this node computed, never an image's.
//
// A block is in use (a session holds it; it counts with that session) or idle (nobody but the index does). Blocks that
// are let go from their end to their beginning, as sessions do, are dropped in that order too: never a beginning before
// what goes on from it. Knows no pool: BlockRefs, its owner, does what it says. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "compute/kv.h"
#include "file/hash.h"

namespace driftwood::session {

// Those who may notice that somebody else's conversation began like theirs, by the time that it saves them.
// docs/decisions/0010-prefixes-are-shared-inside-one-module.md says who that is.
struct TrustDomain {
    file::Hash id{};
};

using PrefixKey = file::Hash;

// The key before the first block.
PrefixKey prefix_root(const TrustDomain& domain, const file::Hash& compute_identity);
// Of a block behind that of `before`. Precondition: kBlockTokens tokens.
PrefixKey prefix_key(const PrefixKey& before, std::span<const uint32_t> tokens);

class PrefixIndex {
  public:
    std::optional<compute::BlockId> find(const PrefixKey& key) const;
    // A block in use. Preconditions: neither key nor block is there.
    void add(const PrefixKey& key, compute::BlockId block);
    bool has(compute::BlockId block) const { return by_block_.contains(block); }
    // The block is found no more. Nothing happens if it is not there.
    void remove(compute::BlockId block);

    // Preconditions: the block is there; it is in use, or idle.
    void let_go(compute::BlockId block);
    void take_up(compute::BlockId block);
    // The one that has been idle for longest.
    std::optional<compute::BlockId> oldest_idle() const;
    size_t idle() const { return idle_.size(); }
    size_t size() const { return by_block_.size(); }

  private:
    struct Entry {
        PrefixKey key;
        uint64_t idle_since = 0;  // 0: in use
    };
    std::map<PrefixKey, compute::BlockId> by_key_;
    std::map<compute::BlockId, Entry> by_block_;
    std::map<uint64_t, compute::BlockId> idle_;  // by when they were let go
    uint64_t let_go_ = 0;                        // how often
};

}  // namespace driftwood::session
