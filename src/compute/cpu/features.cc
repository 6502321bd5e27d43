#include "compute/cpu/features.h"

#include <cpuid.h>

namespace driftwood::compute {

// The compiler's run time reads CPUID, and XCR0 through XGETBV: a feature whose registers are not saved counts as
// absent.

bool cpu_has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

bool cpu_has_avx2() {
    // F16C is not among the names that every compiler knows here; its registers are AVX's.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

}  // namespace driftwood::compute
