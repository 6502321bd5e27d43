// A session as an image holds it: the small tensors `session.<id>.tokens`, `.transcript` and `.state`, decoded and
// checked for everything that can be checked without the model.
//
//   .transcript  record TRNS 1: u64 parts; each u8 kind (0 text, 1 tokens), str role, str text, u32 first token,
//                u32 end token, u8 open
//   .state       record SESS 1: str model name, bytes compute identity, bytes text identity, u32 computed tokens, u8
//   tail
//                (0 closed, 1 open, 2 ended: session_state.h), u8 whether a generate follows, and then
//                  record GENR 2: f32 temperature, f32 top_p, u32 top_k, u64 seed, u32 max tokens, u8 finish
//                  (0 running, 1 end of turn, 2 max tokens, 3 context full, 4 closed, 5 picked), u32 part, u32 produced
//                  tokens, bytes output, bytes held back
// What joins later joins as a new record or a new version.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "file/hash.h"
#include "file/section.h"
#include "session/session_state.h"

namespace driftwood::session {

struct Frozen {
    std::string model_name;
    file::Hash compute_identity{};
    file::Hash text_identity{};
    std::vector<uint32_t> tokens;
    uint32_t computed = 0;
    std::vector<Part> parts;
    Tail tail = Tail::kClosed;
    std::optional<Generate> generate;
};

// "session.<id>.<part>".
std::string tensor_name(uint32_t id, std::string_view part);

std::vector<uint8_t> encode_transcript(const std::vector<Part>& parts);
std::vector<uint8_t> encode_state(const Session::State& state);

// Reads and verifies the three tensors. kCorrupt names the tensor and what in it contradicts what.
Result<Frozen> read_frozen(uint32_t id, const file::SectionReader& image);

}  // namespace driftwood::session
