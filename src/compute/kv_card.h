// KvCard: what a pool of KV blocks asks of a card that has memory of its own: memory there, host memory that it copies
// from and to at the bus's full speed, and work that is queued and done in order. cuda/kv_card.h is one; tests have one
// in host memory whose queue moves only when it is waited for.
//
// Threads: the engine's one submitting thread. Memory lives as long as the card.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace driftwood::compute {

class KvCard {
  public:
    virtual ~KvCard() = default;
    // kLimit when there is no more. The card's is zero by the time queued work runs.
    virtual Result<uint8_t*> card_memory(size_t size) = 0;
    virtual Result<uint8_t*> pinned_memory(size_t size) = 0;

    // ---- Queued. Host memory may be any; unpinned, the call itself may wait.
    virtual Result<void> to_card(uint8_t* card, const uint8_t* host, size_t size) = 0;
    virtual Result<void> to_host(uint8_t* host, const uint8_t* card, size_t size) = 0;
    virtual Result<void> clear(uint8_t* card, size_t size) = 0;
    // Rows of tokens of a block (kv.h): the first `rows` from one to another; zeros from first_row on.
    virtual Result<void> copy_rows(const uint8_t* from, uint8_t* to, uint32_t rows) = 0;
    virtual Result<void> clear_rows(uint8_t* block, uint32_t first_row) = 0;

    // Until all that was queued is done.
    virtual Result<void> wait() = 0;
};

}  // namespace driftwood::compute
