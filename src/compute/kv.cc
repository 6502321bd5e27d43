#include "compute/kv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

namespace driftwood::compute {

namespace {

constexpr size_t kBlockAlignment = 65536;

void set_int(uint8_t* head, size_t index, int16_t value) {
    std::memcpy(head + index * sizeof(value), &value, sizeof(value));
}

void set_scale(uint8_t* head, uint32_t head_dim, size_t index, float value) {
    std::memcpy(head + size_t{4} * kBlockTokens * head_dim + index * sizeof(value), &value, sizeof(value));
}

// Calls visit(head's first byte's offset) for each head of a block.
template <class Visit>
void for_each_head(const KvLayout& layout, Visit visit) {
    const size_t heads = size_t{layout.layers} * layout.kv_heads;
    for (size_t i = 0; i < heads; ++i) visit(i * layout.head_bytes());
}

}  // namespace

size_t KvLayout::block_bytes() const {
    const size_t bytes = size_t{layers} * kv_heads * head_bytes();
    return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

void store_k_row(uint8_t* head, uint32_t head_dim, uint32_t token, const int16_t* k, float scale) {
    for (uint32_t d = 0; d < head_dim; ++d) set_int(head, KvHeadView::k_index(head_dim, token, d), k[d]);
    set_scale(head, head_dim, token, scale);
}

void store_v_row(uint8_t* head, uint32_t head_dim, uint32_t token, const int16_t* v, float scale) {
    for (uint32_t d = 0; d < head_dim; ++d) set_int(head, KvHeadView::v_index(head_dim, token, d), v[d]);
    set_scale(head, head_dim, kBlockTokens + token, scale);
}

void clear_block_rows(const KvLayout& layout, uint8_t* block, uint32_t first_token) {
    if (first_token == 0) {
        std::memset(block, 0, layout.block_bytes());
        return;
    }
    for_each_head(layout, [&](size_t offset) {
        for (uint32_t token = first_token; token < kBlockTokens; ++token) {
            for (uint32_t d = 0; d < layout.head_dim; ++d) {
                set_int(block + offset, KvHeadView::k_index(layout.head_dim, token, d), 0);
                set_int(block + offset, KvHeadView::v_index(layout.head_dim, token, d), 0);
            }
            set_scale(block + offset, layout.head_dim, token, 0.0F);
            set_scale(block + offset, layout.head_dim, kBlockTokens + token, 0.0F);
        }
    });
}

void copy_block_rows(const KvLayout& layout, const uint8_t* from, uint8_t* to, uint32_t tokens) {
    if (tokens == kBlockTokens) {
        std::memcpy(to, from, layout.block_bytes());
        return;
    }
    for_each_head(layout, [&](size_t offset) {
        const KvHeadView source(from + offset, layout.head_dim);
        for (uint32_t token = 0; token < tokens; ++token) {
            for (uint32_t d = 0; d < layout.head_dim; ++d) {
                set_int(to + offset, KvHeadView::k_index(layout.head_dim, token, d), source.k(token, d));
                set_int(to + offset, KvHeadView::v_index(layout.head_dim, token, d), source.v(token, d));
            }
            set_scale(to + offset, layout.head_dim, token, source.k_scale(token));
            set_scale(to + offset, layout.head_dim, kBlockTokens + token, source.v_scale(token));
        }
    });
}

Result<void> check_block_scales(const KvLayout& layout, const uint8_t* block) {
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
        for (uint32_t kv_head = 0; kv_head < layout.kv_heads; ++kv_head) {
            const KvHeadView head(block + layout.head_offset(layer, kv_head), layout.head_dim);
            for (uint32_t i = 0; i < 2 * kBlockTokens; ++i) {
                const float scale = i < kBlockTokens ? head.k_scale(i) : head.v_scale(i - kBlockTokens);
                const bool good = scale == 0.0F ? !std::signbit(scale) : scale >= kMinKvScale && std::isfinite(scale);
                if (good) continue;
                return error(ErrorCode::kCorrupt,
                             "[compute.kv] layer " + std::to_string(layer) + " kv head " + std::to_string(kv_head) +
                                 " token " + std::to_string(i % kBlockTokens) + ": want a " +
                                 (i < kBlockTokens ? "key" : "value") + " scale of 0 or a finite one >= 2^-76, got " +
                                 std::to_string(scale));
            }
        }
    }
    return {};
}

}  // namespace driftwood::compute
