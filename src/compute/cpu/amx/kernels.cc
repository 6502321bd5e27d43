#include "compute/cpu/amx/amx.h"

#include "compute/cpu/avx512/avx512.h"
#include "compute/reference/reference.h"

namespace driftwood::compute::amx {

namespace {

// From here on tiles are faster than vectors: unpacking weights for a tile is paid once per call.
constexpr uint32_t kManyTokens = 8;

LinearKernel tiles_kernel(WeightType type, ActivationKind kind) {
    const LinearKernel kernel = groups_kernel(type, kind);
    return kernel != nullptr ? kernel : super_blocks_kernel(type, kind);
}

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

template <WeightType kType>
void set(Kernels& table) {
    constexpr auto kIndex = static_cast<uint32_t>(kType);
    constexpr bool kGroups32 = kType == WeightType::kQ8_0;
    constexpr ActivationKind kNarrow = kGroups32 ? ActivationKind::kA32P : ActivationKind::kA256;
    table.linear[kIndex][static_cast<uint32_t>(kNarrow)] = linear<kType, kNarrow>;
    table.linear[kIndex][static_cast<uint32_t>(ActivationKind::kA16)] = linear<kType, ActivationKind::kA16>;
}

}  // namespace

// Compiled for the base instruction set: every engine list asks for this table, also where it cannot run.
const Kernels& kernels() {
    static const Kernels kTable = [] {
        Kernels table = avx512::kernels();
        table.name = "amx";
        set<WeightType::kQ8_0>(table);
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
