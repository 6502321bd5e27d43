#include "compute/cpu/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace driftwood::compute {

#if defined(__x86_64__)

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

bool cpu_has_neon_dotprod() { return false; }

#else

bool cpu_has_avx512() { return false; }
bool cpu_has_avx2() { return false; }

#if defined(__linux__)
bool cpu_has_neon_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__APPLE__)
bool cpu_has_neon_dotprod() {
    int has = 0;
    size_t size = sizeof(has);
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
}
#endif

#endif

}  // namespace driftwood::compute
