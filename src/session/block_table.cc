#include "session/block_table.h"

#include "base/check.h"
#include "compute/math.h"

namespace driftwood::session {

Result<compute::BlockId> BlockRefs::allocate() {
    DW_ASSIGN(const compute::BlockId block, pool_.allocate());
    first(block);
    return block;
}

Result<std::vector<compute::BlockId>> BlockRefs::adopt(int fd, uint64_t file_offset, uint32_t count) {
    DW_ASSIGN(std::vector<compute::BlockId> blocks, pool_.adopt(fd, file_offset, count));
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
    if (--count(block) == 0) pool_.release(block);
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
