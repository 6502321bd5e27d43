// What one actor may hold. A guest that asks for more gets -EOVERFLOW; whoever sends it more gets kLimit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace driftwood::actor {

inline constexpr size_t kMaxMailboxMessages = 1024;
inline constexpr size_t kMaxMessageBytes = 1 << 20;
inline constexpr size_t kMaxOperations = 1024;
inline constexpr size_t kMaxSessions = 64;
inline constexpr size_t kMaxReplyBytes = 1 << 20;
inline constexpr size_t kMaxEffectsPerTurn = 4096;
inline constexpr size_t kMaxEffectBytesPerTurn = 16 << 20;
inline constexpr size_t kMaxAppendBytes = 1 << 20;  // the text of one session_append
inline constexpr uint64_t kMaxGemmSteps = uint64_t{1}
                                          << 32;         // m * n * k of one GEMM: seconds, in which nobody else runs
inline constexpr uint32_t kNoMoreSessions = UINT32_MAX;  // a handle is never given twice
// Counters of a thawed actor: far beyond any life, and so far from the end of their type that nothing overflows.
inline constexpr int64_t kMaxCounter = int64_t{1} << 62;
inline constexpr size_t kMaxLogLineBytes = 64 * 1024;
inline constexpr uint32_t kPrefillChunk = 64;  // tokens of one forward step: how long a freeze may have to wait

}  // namespace driftwood::actor
