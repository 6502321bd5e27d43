// Reference counts of an engine's KV blocks: sessions share immutable blocks, the last holder gives a block back.
// One per engine. Threads: the engine's submitting thread.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "compute/kv.h"

namespace driftwood::session {

class BlockRefs {
  public:
    explicit BlockRefs(compute::KvPool& pool) : pool_(pool) {}
    compute::KvPool& pool() { return pool_; }

    Result<compute::BlockId> allocate();                                                        // count 1
    Result<std::vector<compute::BlockId>> adopt(int fd, uint64_t file_offset, uint32_t count);  // count 1 each
    void share(compute::BlockId block);                                                         // count + 1
    void release(compute::BlockId block);       // count - 1; 0 returns it to the pool
    bool shared(compute::BlockId block) const;  // count > 1

  private:
    compute::KvPool& pool_;
    std::vector<uint32_t> counts_;
};

}  // namespace driftwood::session
