// Rule 3 over the registers of an instruction set, a row of the matrix per lane, so that each lane runs its row's float
// chain in the contract's order. A super-block of a few rows is unpacked once (weight_lanes.h) and multiplied by up to
// kMaxTokens tokens while it is in the first-level cache.
//
// Beside what weight_lanes.h asks for, `Isa` brings:
//   dot<kType, kKind, kWords>(words, q)   Int: Σ over 4 kWords products of a format's bytes and digits of kKind, exact
//   to_float(Int), splat(float), multiply(Float, Float), add(Float, Float), fma(a, b, c), fms(a, b, c) = a · b − c
//   store(y, count, Float)            the first `count` lanes
#pragma once

#include "compute/cpu/weight_lanes.h"
#include "compute/kernels.h"

namespace driftwood::compute {

namespace {  // each kernel file gets copies of its own

constexpr uint32_t kMaxTokens = 32;  // tokens whose sums are kept while a super-block is unpacked
constexpr uint32_t kSumsPerGroup = kGroup / kSumGroup;
constexpr uint32_t kSumsPerBlock = kSuperBlock / kSumGroup;

// S, the sum of a group's activations, from their sums of every 16.
template <ActivationKind kKind>
int32_t group_sum(const Linear& args, size_t at) {
    const int32_t high = args.x.high_sum[at] + args.x.high_sum[at + 1];
    if constexpr (kKind == ActivationKind::kA16) return 256 * high + args.x.low_sum[at] + args.x.low_sum[at + 1];
    return high;
}

// What weights without sign have too much: the format's offset times S.
template <class Isa, WeightType kType>
typename Isa::Int without_offset(typename Isa::Int sum, int32_t s) {
    if constexpr (Isa::kSignedBytes || Format<kType>::kOffset == 0) return sum;
    return Isa::add(sum, Isa::set(-Format<kType>::kOffset * s));
}

// ---- groups with float scales

// The chains of one token over the `count` groups of a super-block, into acc.
template <class Isa, WeightType kType, ActivationKind kKind>
typename Isa::Float add_groups(const Linear& args, uint32_t token, uint32_t first, uint32_t count,
                               const GroupOf<Isa>* groups, typename Isa::Float acc) {
    const size_t row = size_t{token} * args.cols;
    auto t = Isa::splat(0.0F);
    for (uint32_t j = 0; j < count; ++j) {
        const size_t at = row + size_t{first + j} * kGroup;
        const int32_t s = group_sum<kKind>(args, at / kSumGroup);
        auto sum = Isa::template dot<kType, kKind, kGroupWords>(groups[j].words, args.x.high + at);
        if constexpr (kKind == ActivationKind::kA16) {
            const auto low = Isa::template dot<kType, kKind, kGroupWords>(groups[j].words, args.x.low + at);
            sum = Isa::add(Isa::left(sum, 8), low);
        }
        auto f = Isa::to_float(without_offset<Isa, kType>(sum, s));
        if constexpr (kKind == ActivationKind::kA32P) f = Isa::multiply(f, Isa::splat(args.x.scale[at / kGroup]));
        t = Isa::fma(groups[j].d, f, t);
        if constexpr (Format<kType>::kHasMin) {
            t = Isa::fma(groups[j].m, Isa::splat(static_cast<float>(s)), t);
        }
    }
    if constexpr (kKind == ActivationKind::kA32P) return Isa::add(acc, t);
    const size_t blocks = (args.cols + kSuperBlock - 1) / kSuperBlock;
    return Isa::fma(t, Isa::splat(args.x.scale[token * blocks + first / kBlockGroups]), acc);
}

template <class Isa, WeightType kType, ActivationKind kKind>
struct GroupLayer {
    static void rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens,
                     typename Isa::Float* acc) {
        const uint32_t all = args.cols / kGroup;
        GroupOf<Isa> groups[kBlockGroups];
        for (uint32_t first = 0; first < all; first += kBlockGroups) {
            const uint32_t count = all - first < kBlockGroups ? all - first : kBlockGroups;
            for (uint32_t j = 0; j < count; ++j) Format<kType>::load(rows, first + j, groups[j]);
            for (uint32_t i = 0; i < tokens; ++i) {
                acc[i] = add_groups<Isa, kType, kKind>(args, first_token + i, first, count, groups, acc[i]);
            }
        }
    }
};

// ---- super-blocks with integer scales

// A, or one digit's part of it, of one token.
template <class Isa, WeightType kType, ActivationKind kKind, uint32_t kParts>
typename Isa::Float scaled_sum(const int8_t* q, const int32_t* q_sums, const SuperBlockOf<Isa, kParts>& block) {
    constexpr uint32_t kWords = kSuperBlock / 4 / kParts;
    auto total = Isa::set(0);
    for (uint32_t part = 0; part < kParts; ++part) {
        const int32_t s = kParts == 16 ? q_sums[part] : q_sums[2 * part] + q_sums[2 * part + 1];
        const auto sum =
            Isa::template dot<kType, kKind, kWords>(block.words + part * kWords, q + size_t{4} * kWords * part);
        total = Isa::add(total, Isa::multiply(block.scale[part], without_offset<Isa, kType>(sum, s)));
    }
    return Isa::to_float(total);
}

template <class Isa, WeightType kType, ActivationKind kKind>
struct SuperBlockLayer {
    static constexpr uint32_t kParts = Format<kType>::kParts;

    // The chain of one token over super-block `index`, into acc.
    static typename Isa::Float add_block(const Linear& args, uint32_t token, uint32_t index,
                                         const SuperBlockOf<Isa, kParts>& block, typename Isa::Float acc) {
        const size_t at = size_t{token} * args.cols + size_t{index} * kSuperBlock;
        auto f = scaled_sum<Isa, kType, kKind>(args.x.high + at, args.x.high_sum + at / kSumGroup, block);
        if constexpr (kKind == ActivationKind::kA16) {
            const auto low = scaled_sum<Isa, kType, kKind>(args.x.low + at, args.x.low_sum + at / kSumGroup, block);
            f = Isa::fma(Isa::splat(256.0F), f, low);
        }
        auto t = f;
        if constexpr (Format<kType>::kHasMin) {
            auto minima = Isa::set(0);  // B
            for (uint32_t j = 0; j < kBlockGroups; ++j) {
                const int32_t s = group_sum<kKind>(args, at / kSumGroup + size_t{kSumsPerGroup} * j);
                minima = Isa::add(minima, Isa::multiply(block.min[j], Isa::set(s)));
            }
            t = Isa::fms(block.d, f, Isa::multiply(block.dmin, Isa::to_float(minima)));
        } else {
            t = Isa::multiply(block.d, f);
        }
        return Isa::fma(t, Isa::splat(args.x.scale[at / kSuperBlock]), acc);
    }

    static void rows(const Linear& args, const RowsOf<Isa>& rows, uint32_t first_token, uint32_t tokens,
                     typename Isa::Float* acc) {
        SuperBlockOf<Isa, kParts> block;
        for (uint32_t b = 0; b < args.cols / kSuperBlock; ++b) {
            Format<kType>::load(rows, b, block);
            for (uint32_t i = 0; i < tokens; ++i) acc[i] = add_block(args, first_token + i, b, block, acc[i]);
        }
    }
};

// ---- the layer

template <class Isa, class Layer>
void linear_layer(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    for (uint32_t r = row_begin; r < row_end; r += Isa::kRows) {
        const uint32_t count = row_end - r < Isa::kRows ? row_end - r : Isa::kRows;
        const RowsOf<Isa> rows(args.weights, args.row_bytes, r, count);
        for (uint32_t first = 0; first < args.tokens; first += kMaxTokens) {
            const uint32_t tokens = args.tokens - first < kMaxTokens ? args.tokens - first : kMaxTokens;
            typename Isa::Float acc[kMaxTokens];
            for (uint32_t i = 0; i < tokens; ++i) acc[i] = Isa::splat(0.0F);
            Layer::rows(args, rows, first, tokens, acc);
            for (uint32_t i = 0; i < tokens; ++i) {
                Isa::store(args.y + size_t{first + i} * args.y_stride + r, count, acc[i]);
            }
        }
    }
}

// The kernel of a type for `kNarrow` or for 16-bit activations; null for other kinds.
template <class Isa, template <class, WeightType, ActivationKind> class Layer, WeightType kType,
          ActivationKind kNarrow = ActivationKind::kA256>
LinearKernel linear_of(ActivationKind kind) {
    if (kind == kNarrow) return linear_layer<Isa, Layer<Isa, kType, kNarrow>>;
    if (kind == ActivationKind::kA16) return linear_layer<Isa, Layer<Isa, kType, ActivationKind::kA16>>;
    return nullptr;
}

// The kernel of a pair of types, for weights whose groups of 32 have a float scale each; null for others.
template <class Isa, template <class, WeightType, ActivationKind> class Layer>
LinearKernel groups_of(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ8_0: return linear_of<Isa, Layer, WeightType::kQ8_0, ActivationKind::kA32P>(kind);
        case WeightType::kQ4_0: return linear_of<Isa, Layer, WeightType::kQ4_0>(kind);
        case WeightType::kQ4_1: return linear_of<Isa, Layer, WeightType::kQ4_1>(kind);
        case WeightType::kQ5_0: return linear_of<Isa, Layer, WeightType::kQ5_0>(kind);
        case WeightType::kQ5_1: return linear_of<Isa, Layer, WeightType::kQ5_1>(kind);
        default: return nullptr;
    }
}

// As groups_of, for weights whose super-blocks have integer scales.
template <class Isa, template <class, WeightType, ActivationKind> class Layer>
LinearKernel super_blocks_of(WeightType type, ActivationKind kind) {
    switch (type) {
        case WeightType::kQ4_K: return linear_of<Isa, Layer, WeightType::kQ4_K>(kind);
        case WeightType::kQ5_K: return linear_of<Isa, Layer, WeightType::kQ5_K>(kind);
        case WeightType::kQ6_K: return linear_of<Isa, Layer, WeightType::kQ6_K>(kind);
        case WeightType::kQ4S: return linear_of<Isa, Layer, WeightType::kQ4S>(kind);
        default: return nullptr;
    }
}

}  // namespace
}  // namespace driftwood::compute
