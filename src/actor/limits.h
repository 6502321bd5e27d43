// What one actor may hold, as the guest ABI says it. A guest that asks for more gets -EOVERFLOW; whoever sends it more
// gets kLimit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driftwood/guest.h"

namespace driftwood::actor {

inline constexpr size_t kMaxMailboxMessages = DRIFTWOOD_MAX_MAILBOX_MESSAGES;
inline constexpr size_t kMaxMessageBytes = DRIFTWOOD_MAX_MESSAGE_BYTES;
inline constexpr size_t kMaxOperations = DRIFTWOOD_MAX_OPERATIONS;
inline constexpr size_t kMaxStreams = DRIFTWOOD_MAX_STREAMS;
inline constexpr size_t kMaxSessions = DRIFTWOOD_MAX_SESSIONS;
inline constexpr size_t kMaxReplyBytes = DRIFTWOOD_MAX_REPLY_BYTES;
inline constexpr size_t kMaxEffectsPerTurn = DRIFTWOOD_MAX_EFFECTS_PER_TURN;
inline constexpr size_t kMaxEffectBytesPerTurn = DRIFTWOOD_MAX_EFFECT_BYTES_PER_TURN;
inline constexpr size_t kMaxAppendBytes = DRIFTWOOD_MAX_APPEND_BYTES;
inline constexpr size_t kMaxTokenizeBytes = DRIFTWOOD_MAX_TOKENIZE_BYTES;  // it does not wait
inline constexpr uint32_t kMaxDetokenizeTokens = DRIFTWOOD_MAX_DETOKENIZE_TOKENS;
inline constexpr uint64_t kMaxGemmSteps = DRIFTWOOD_MAX_GEMM_STEPS;  // seconds, in which nobody else runs
inline constexpr uint32_t kNoMoreSessions = UINT32_MAX;              // a handle is never given twice
// Counters of a thawed actor: far beyond any life, and so far from the end of their type that nothing overflows.
inline constexpr int64_t kMaxCounter = int64_t{1} << 62;
inline constexpr size_t kMaxLogLineBytes = DRIFTWOOD_MAX_LOG_BYTES;
inline constexpr uint32_t kPrefillChunk = 64;  // tokens of one forward step: how long a freeze may have to wait

}  // namespace driftwood::actor
