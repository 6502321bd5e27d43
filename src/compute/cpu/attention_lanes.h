// Rule 7's walk over the chunks, for every instruction set. Chunks come outermost, so that a chunk's keys and values
// are read from memory once for all rows of the call; within a chunk, up to four rows at a time share each register of
// keys and of values. Meanwhile the next chunk may be asked for (ahead.h), once for all rows.
//
// Written over `Isa`, what an instruction set brings:
//   State                              a row on its way: its query, the chunk's weights, and `running`
//   begin(row, head_dim, state)        the query into state, zeros into row.out
//   attend<kRows>(chunk, head_dim, most_visible, rows, states, ahead)
//                                      one chunk for kRows rows, each of which sees some of it and none more than
//                                      most_visible keys; clears `finite` of a row outside the contract's range
//   splat, load_left, store_left, multiply, fma        as in row_lanes.h
// Each Isa lies in an unnamed namespace, so everything here does too, in effect (see README.md).
#pragma once

#include "compute/constants.h"
#include "compute/cpu/ahead.h"
#include "compute/cpu/float_bits.h"
#include "compute/kernels.h"

namespace driftwood::compute {
namespace {  // each kernel file gets copies of its own

constexpr uint32_t kSharing = 4;  // rows that share a register of keys or values
constexpr uint32_t kHalf = kBlockTokens / 2;

struct Chunk {
    const int16_t* k;
    const int16_t* v;
    const float* ks;
    const float* vs;
    uint32_t first;  // position of its first key
};

Chunk chunk_at(const AttentionKvi& args, uint32_t index) {
    const auto* ints = reinterpret_cast<const int16_t*>(args.blocks[index]);
    const size_t count = size_t{kBlockTokens} * args.head_dim;
    const auto* scales = reinterpret_cast<const float*>(ints + 2 * count);
    return {ints, ints + count, scales, scales + kBlockTokens, index * kBlockTokens};
}

uint32_t visible_in(const Chunk& chunk, const AttentionRow& row) {
    if (row.visible <= chunk.first) return 0;
    return row.visible - chunk.first < kBlockTokens ? row.visible - chunk.first : kBlockTokens;
}

// m of a chunk whose largest scaled score is c, |c| < kRoundLimit.
float chunk_max(float c) {
    const float n = (c + kRoundMagic) - kRoundMagic;
    return c - n >= kTiny ? n + 1.0F : n;
}

// The power of two that is the unit of a chunk's integer weights, from the bits of its largest weight, which is finite.
struct WeightUnit {
    bool zero;
    int32_t exponent;

    explicit WeightUnit(uint32_t most_bits)
        : zero(most_bits < bits_of(kTiny)), exponent(static_cast<int32_t>(most_bits >> 23) - 139) {}
    float inverse() const { return zero ? 0.0F : power_of_two(-exponent); }
};

// What a row keeps from chunk to chunk, and what the chunk's values are merged with.
struct Running {
    float max;
    float sum;
    float al;    // factor of what came before
    float unit;  // of the weights, times the chunk's factor

    // A chunk with maximum m, whose probabilities sum to l.
    void merge(float m, int32_t l, WeightUnit g) {
        const float new_max = max > m ? max : m;
        const int32_t be_exponent = static_cast<int32_t>(m - new_max);
        al = power_of_two(static_cast<int32_t>(max - new_max));
        unit = g.zero ? 0.0F : power_of_two(g.exponent + be_exponent);
        sum = __builtin_fmaf(static_cast<float>(l), power_of_two(be_exponent), sum * al);
        max = new_max;
    }
};

// O = fma(float(Σ weight · v), unit, O · al) of what is left of head_dim dimensions from d on.
template <class Lanes>
void merge_values(const Running& running, typename Lanes::Float total, float* out, uint32_t d, uint32_t head_dim) {
    const auto before = Lanes::multiply(Lanes::load_left(out, d, head_dim), Lanes::splat(running.al));
    Lanes::store_left(out, d, head_dim, Lanes::fma(total, Lanes::splat(running.unit), before));
}

template <class Isa, uint32_t kRows>
void attend(const Chunk& chunk, uint32_t head_dim, AttentionRow* rows, typename Isa::State* states, Ahead& ahead) {
    uint32_t most_visible = 0;
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kRows; ++r) {
        const uint32_t visible = visible_in(chunk, rows[r]);
        most_visible = visible > most_visible ? visible : most_visible;
    }
    Isa::template attend<kRows>(chunk, head_dim, most_visible, rows, states, ahead);
}

template <class Isa>
void attend(uint32_t count, const Chunk& chunk, uint32_t head_dim, AttentionRow* rows, typename Isa::State* states,
            Ahead& ahead) {
    switch (count) {
        case 1: return attend<Isa, 1>(chunk, head_dim, rows, states, ahead);
        case 2: return attend<Isa, 2>(chunk, head_dim, rows, states, ahead);
        case 3: return attend<Isa, 3>(chunk, head_dim, rows, states, ahead);
        default: return attend<Isa, kSharing>(chunk, head_dim, rows, states, ahead);
    }
}

template <class Isa>
void attend_to_all(const AttentionKvi& args) {
    typename Isa::State states[kMaxAttentionRows];
    uint32_t most_visible = 0;
    for (uint32_t r = 0; r < args.row_count; ++r) {
        Isa::begin(args.rows[r], args.head_dim, states[r]);
        states[r].running.max = kFirstMax;
        states[r].running.sum = 0.0F;
        args.rows[r].finite = true;
        most_visible = args.rows[r].visible > most_visible ? args.rows[r].visible : most_visible;
    }
    for (uint32_t index = 0; index * kBlockTokens < most_visible; ++index) {
        const Chunk chunk = chunk_at(args, index);
        Ahead ahead = ahead_of(args, index, most_visible);
        for (uint32_t r = 0; r < args.row_count;) {
            // Rows that see nothing of this chunk are not merged with it: they would turn a −0 into +0.
            if (visible_in(chunk, args.rows[r]) == 0) {
                ++r;
                continue;
            }
            uint32_t count = 1;
            while (count < kSharing && r + count < args.row_count && visible_in(chunk, args.rows[r + count]) > 0)
                ++count;
            attend<Isa>(count, chunk, args.head_dim, args.rows + r, states + r, ahead);
            r += count;
        }
    }
    for (uint32_t r = 0; r < args.row_count; ++r) {
        float* out = args.rows[r].out;
        const auto factor = Isa::splat(kWeightScale / states[r].running.sum);
        for (uint32_t d = 0; d < args.head_dim; d += Isa::kLanes) {
            Isa::store_left(out, d, args.head_dim, Isa::multiply(Isa::load_left(out, d, args.head_dim), factor));
        }
    }
}

}  // namespace
}  // namespace driftwood::compute
