#include "session/block_table.h"

#include "base/check.h"
#include "compute/math.h"

namespace driftwood::session {

BlockRefs::~BlockRefs() {
    while (drop_oldest_idle()) {
    }
}

Result<compute::BlockId> BlockRefs::allocate() {
    auto block = pool_.allocate();
    while (!block.ok() && block.error().code == ErrorCode::kLimit && drop_oldest_idle()) block = pool_.allocate();
    if (block.ok()) first(*block);
    return block;
}

Result<std::vector<compute::BlockId>> BlockRefs::adopt(int fd, uint64_t file_offset, uint32_t count) {
    auto adopted = pool_.adopt(fd, file_offset, count);
    while (!adopted.ok() && adopted.error().code == ErrorCode::kLimit && drop_oldest_idle()) {
        adopted = pool_.adopt(fd, file_offset, count);
    }
    DW_ASSIGN(std::vector<compute::BlockId> blocks, std::move(adopted));
    for (const compute::BlockId block : blocks) first(block);
    return blocks;
}

void BlockRefs::first(compute::BlockId block) {
    if (block >= counts_.size()) counts_.resize(size_t{block} + 1);
    CHECK(counts_[block] == 0);
    counts_[block] = 1;
}

uint32_t& BlockRefs::count(compute::BlockId block) {
    CHECK(block < counts_.size() && counts_[block] > 0);
    return counts_[block];
}

void BlockRefs::share(compute::BlockId block) { ++count(block); }

void BlockRefs::release(compute::BlockId block) {
    if (--count(block) > 0) return;
    if (!prefixes_.has(block)) return pool_.release(block);
    prefixes_.let_go(block);
    if (prefixes_.idle() > idle_limit_.value_or(0)) drop_oldest_idle();
}

bool BlockRefs::drop_oldest_idle() {
    const auto oldest = prefixes_.oldest_idle();
    if (!oldest) return false;
    prefixes_.remove(*oldest);
    pool_.release(*oldest);
    ++prefix_counts_.blocks_dropped;
    return true;
}

uint32_t BlockRefs::available() const { return pool_.capacity() - pool_.blocks_in_use() + idle_prefixes(); }

std::optional<compute::BlockId> BlockRefs::take_prefix(const PrefixKey& key) {
    const auto found = prefixes_.find(key);
    if (!found) return std::nullopt;
    if (counts_[*found]++ == 0) prefixes_.take_up(*found);
    ++prefix_counts_.blocks_reused;
    return found;
}

compute::BlockId BlockRefs::publish_prefix(const PrefixKey& key, compute::BlockId block) {
    const auto found = prefixes_.find(key);
    if (!found) {
        prefixes_.add(key, block);
        return block;
    }
    if (*found == block) return block;
    if (counts_[*found]++ == 0) prefixes_.take_up(*found);
    release(block);
    return *found;
}

bool BlockRefs::shared(compute::BlockId block) const {
    CHECK(block < counts_.size() && counts_[block] > 0);
    return counts_[block] > 1;
}

bool rows_are_zero(const compute::KvLayout& layout, std::span<const uint8_t> block, uint32_t first_row) {
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
        for (uint32_t kv_head = 0; kv_head < layout.kv_heads; ++kv_head) {
            const compute::KvHeadView head(block.data() + layout.head_offset(layer, kv_head), layout.head_dim);
            for (uint32_t token = first_row; token < compute::kBlockTokens; ++token) {
                if (compute::float_bits(head.k_scale(token)) != 0 || compute::float_bits(head.v_scale(token)) != 0) {
                    return false;
                }
                for (uint32_t d = 0; d < layout.head_dim; ++d) {
                    if (head.k(token, d) != 0 || head.v(token, d) != 0) return false;
                }
            }
        }
    }
    return true;
}

}  // namespace driftwood::session
