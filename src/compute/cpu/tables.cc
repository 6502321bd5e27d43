#include "compute/cpu/tables.h"

#include "compute/cpu/features.h"
#include "compute/reference/reference.h"

#if defined(DRIFTWOOD_X86)
#include "compute/cpu/amx/amx.h"
#include "compute/cpu/avx2/avx2.h"
#include "compute/cpu/avx512/avx512.h"
#elif defined(DRIFTWOOD_ARM)
#include "compute/cpu/i8mm/i8mm.h"
#include "compute/cpu/neon/neon.h"
#endif

namespace driftwood::compute {

std::span<const KernelTable> kernel_tables() {
    static const KernelTable kTables[] = {
#if defined(DRIFTWOOD_X86)
        {&amx::kernels(), cpu_has_amx_int8(), "AMX int8, AVX-512 F, BW, DQ, VL, VNNI"},
        {&avx512::kernels(), cpu_has_avx512(), "AVX-512 F, BW, DQ, VL, VNNI"},
        {&avx2::kernels(), cpu_has_avx2(), "AVX2, FMA, F16C"},
#elif defined(DRIFTWOOD_ARM)
        {&i8mm::kernels(), cpu_has_i8mm(), "NEON with dot products and i8mm (Armv8.6)"},
        {&neon::kernels(), cpu_has_neon_dotprod(), "NEON with dot products (Armv8.2)"},
#endif
        {&reference::kernels(), true, "any processor"},
    };
    return kTables;
}

}  // namespace driftwood::compute
