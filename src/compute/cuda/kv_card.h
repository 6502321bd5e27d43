// The card as a pool of KV blocks sees it (compute/kv_card.h), and the pool's size.
#pragma once

#include <memory>

#include "compute/cpu/thread_pool.h"
#include "compute/cuda/runtime.h"
#include "compute/paged_kv_pool.h"

namespace driftwood::compute::cuda {

// A pool on the card; the stream and the threads, which copy what is not pinned, outlive it. `card_blocks`, 0: what is
// free on the card by now, but for kReserveBytes. `host_blocks`, kHostBlocksAuto: what half of the host's free memory
// holds.
Result<std::unique_ptr<PagedKvPool>> make_kv_pool(const KvLayout& layout, uint32_t card_blocks, uint32_t host_blocks,
                                                  const Stream& stream, ThreadPool& threads);

// Of the card's memory, for what grows with the largest batch: logits, tables of blocks, sums of attention.
inline constexpr size_t kReserveBytes = size_t{1} << 30;

}  // namespace driftwood::compute::cuda
