// The named limits of this folder. What an actor may be given is in InstanceLimits; these hold for every guest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driftwood/guest.h"

namespace driftwood::wasm {

inline constexpr uint64_t kWasmPageBytes = 64 * 1024;

// Reservation and guard together let Wasmtime leave out every bounds check of 32-bit linear memory: an access is a
// 32-bit index plus a 32-bit offset, and compiled code checks only offsets larger than the guard.
inline constexpr uint64_t kMemoryReservationBytes = uint64_t{4} << 30;
inline constexpr uint64_t kMemoryGuardBytes = uint64_t{32} << 20;

// Native stack that a guest may use in a turn; what host calls use comes on top. Threads that run turns have at least
// twice this.
inline constexpr size_t kGuestStackBytes = size_t{1} << 20;

inline constexpr size_t kMaxModuleBytes = size_t{64} << 20;
inline constexpr uint64_t kModuleCacheBytes = uint64_t{256} << 20;  // compiled modules of a user, all together

inline constexpr uint32_t kMaxLogBytes = DRIFTWOOD_MAX_LOG_BYTES;
inline constexpr uint32_t kMaxRandomBytes = DRIFTWOOD_MAX_RANDOM_BYTES;  // and of WASI's random_get
inline constexpr uint32_t kMaxStructBytes = DRIFTWOOD_MAX_STRUCT_BYTES;
inline constexpr uint32_t kMaxIovecs = 1024;         // fd_write, fd_read
inline constexpr uint32_t kMaxWriteBytes = 1 << 20;  // fd_write writes at most this much of what it is given
inline constexpr uint64_t kMaxWasiStringBytes = uint64_t{1} << 20;  // arguments and environment together

inline constexpr size_t kMaxTrapFrames = 16;  // of a trap's stack that its message shows

// The image maps runs of the birth image, and a gap shorter than this joins two runs.
inline constexpr uint64_t kBirthGapBytes = 1 << 20;

}  // namespace driftwood::wasm
