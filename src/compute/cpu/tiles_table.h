// The table of an instruction set that multiplies many tokens at a time, by tiles, and leaves fewer of them and all
// else to another. Compiled for the base instruction set: every engine list asks for a table, also where it cannot run.
//
// `Isa` has kName, kManyTokens, from which on tiles are taken, tiles(type, kind), their kernels, and others(), the
// table of the other.
#pragma once

#include "compute/reference/reference.h"

namespace driftwood::compute {

template <class Isa, WeightType kType, ActivationKind kKind>
void few_or_many(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    static const LinearKernel kMany = Isa::tiles(kType, kKind);
    static const LinearKernel kFew =
        reference::completed(Isa::others()).linear[static_cast<uint32_t>(kType)][static_cast<uint32_t>(kKind)];
    (args.tokens < Isa::kManyTokens ? kFew : kMany)(args, row_begin, row_end);
}

// For the two kinds of activations that a type takes, which may be the same.
template <class Isa, WeightType kType, ActivationKind kNarrow = ActivationKind::kA256>
void set_few_or_many(Kernels& table) {
    LinearKernel* kernels = table.linear[static_cast<uint32_t>(kType)];
    kernels[static_cast<uint32_t>(kNarrow)] = few_or_many<Isa, kType, kNarrow>;
    kernels[static_cast<uint32_t>(ActivationKind::kA16)] = few_or_many<Isa, kType, ActivationKind::kA16>;
}

template <class Isa>
Kernels table_with_tiles() {
    Kernels table = Isa::others();
    table.name = Isa::kName;
    set_few_or_many<Isa, WeightType::kW16, ActivationKind::kA16>(table);
    set_few_or_many<Isa, WeightType::kQ8_0, ActivationKind::kA32P>(table);
    set_few_or_many<Isa, WeightType::kQ4_0>(table);
    set_few_or_many<Isa, WeightType::kQ4_1>(table);
    set_few_or_many<Isa, WeightType::kQ5_0>(table);
    set_few_or_many<Isa, WeightType::kQ5_1>(table);
    set_few_or_many<Isa, WeightType::kQ4_K>(table);
    set_few_or_many<Isa, WeightType::kQ5_K>(table);
    set_few_or_many<Isa, WeightType::kQ6_K>(table);
    set_few_or_many<Isa, WeightType::kQ4S>(table);
    return table;
}

}  // namespace driftwood::compute
