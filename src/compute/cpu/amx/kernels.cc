#include "compute/cpu/amx/amx.h"

#include "compute/cpu/avx512/avx512.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::amx {

namespace {

// From here on tiles are faster than vectors: unpacking weights for a tile is paid once per call.
constexpr uint32_t kManyTokens = 12;

const Kernels& few_tokens() {
    static const Kernels kTable = reference::completed(avx512::kernels());
    return kTable;
}

template <WeightType kType, ActivationKind kKind>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    static const LinearKernel kMany = tiles_kernel(kType, kKind);
    static const LinearKernel kFew = few_tokens().linear[static_cast<uint32_t>(kType)][static_cast<uint32_t>(kKind)];
    (args.tokens < kManyTokens ? kFew : kMany)(args, row_begin, row_end);
}

// For the two kinds of activations that a type takes, which may be the same.
template <WeightType kType, ActivationKind kNarrow = ActivationKind::kA256>
void set(Kernels& table) {
    constexpr auto kIndex = static_cast<uint32_t>(kType);
    table.linear[kIndex][static_cast<uint32_t>(kNarrow)] = linear<kType, kNarrow>;
    table.linear[kIndex][static_cast<uint32_t>(ActivationKind::kA16)] = linear<kType, ActivationKind::kA16>;
}

}  // namespace

LinearKernel tiles_kernel(WeightType type, ActivationKind kind) {
    if (type == WeightType::kW16) return kind == ActivationKind::kA16 ? linear_w16 : nullptr;
    const LinearKernel kernel = groups_kernel(type, kind);
    return kernel != nullptr ? kernel : super_blocks_kernel(type, kind);
}

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = avx512::kernels();
        table.name = "amx";
        set<WeightType::kW16, ActivationKind::kA16>(table);
        set<WeightType::kQ8_0, ActivationKind::kA32P>(table);
        set<WeightType::kQ4_0>(table);
        set<WeightType::kQ4_1>(table);
        set<WeightType::kQ5_0>(table);
        set<WeightType::kQ5_1>(table);
        set<WeightType::kQ4_K>(table);
        set<WeightType::kQ5_K>(table);
        set<WeightType::kQ6_K>(table);
        set<WeightType::kQ4S>(table);
        return table;
    }();
    return kTable;
}

}  // namespace driftwood::compute::amx
