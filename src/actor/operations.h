// What an actor waits for and what has happened but not been told to it yet. Plain data with its encoding; the rules
// live in the actor.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "compute/device.h"
#include "driftwood/guest.h"
#include "file/encoding.h"
#include "wasm/guest_host.h"

namespace driftwood::actor {

struct Operation {
    enum class Kind : uint8_t { kReceive = 1, kNext = 2, kPrefill = 3, kGemm = 4 };
    int64_t id = 0;
    Kind kind = Kind::kReceive;
    wasm::GuestRange out;       // kReceive, kNext: where bytes go
    int64_t target = 0;         // kNext: stream; kPrefill: session
    uint64_t progress = 0;      // kPrefill: tokens computed so far
    driftwood_gemm_f32 gemm{};  // kGemm
};

// An operation that is over, on its way to the guest. `bytes` are written to `out` just before the turn that tells it.
struct Completion {
    int64_t op = 0;
    int64_t status = 0;
    wasm::GuestRange out;
    std::string bytes;
};

// An answer being generated: a name for "the generate of this session" that outlives it until the guest closes it.
struct Stream {
    int64_t session = 0;
    int64_t error = 0;      // a negative errno once the model failed; told by the next `next`
    bool detached = false;  // the session moved on to another generate or was closed: nothing more will come
};

// At most kMaxGemmSteps. Holds for any m, n, k.
bool within_gemm_limit(const driftwood_gemm_f32& gemm);
// The guest's wording of a GEMM as the device's.
compute::GemmF32 to_gemm(const driftwood_gemm_f32& guest);

void encode(file::Encoder& out, const Operation& operation);
void encode(file::Encoder& out, const Completion& completion);
// Decoded fields are bounded by their type alone; whether handles exist and ranges fit is the actor's to check.
Result<Operation> decode_operation(file::Decoder& in);
Result<Completion> decode_completion(file::Decoder& in);

}  // namespace driftwood::actor
