// What this processor and this operating system can run. False on processors of another kind.
#pragma once

namespace driftwood::compute {

// AVX-512 F, BW, DQ, VL and VNNI, with FMA, and an operating system that saves the wide registers (XCR0).
bool cpu_has_avx512();

// AVX-512 as above and AMX's tiles of 8-bit integers. The first call asks Linux for the tiles' registers, which every
// process has to; a kernel that refuses counts as a processor without them.
bool cpu_has_amx_int8();

// AVX2, FMA and F16C, likewise.
bool cpu_has_avx2();

// The dot products of 8-bit integers of 64-bit Arm (SDOT, from Armv8.2 on).
bool cpu_has_neon_dotprod();

// Those, and products of 2 x 8 by 8 x 2 such integers (SMMLA, from Armv8.6 on).
bool cpu_has_i8mm();

}  // namespace driftwood::compute
