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
    enum class Kind : uint8_t { kReceive = 1, kNext = 2, kPrefill = 3, kGemm = 4, kRows = 5, kDecode = 6, kSleep = 7 };
    int64_t id = 0;
    Kind kind = Kind::kReceive;
    wasm::GuestRange out;   // kReceive, kNext: where bytes go; kDecode: the logits
    int64_t target = 0;     // kNext: stream; kPrefill, kDecode: session; kSleep: deadline, in ns of the actor's time
    uint64_t progress = 0;  // kPrefill: tokens computed so far
    driftwood_gemm gemm{};  // kGemm
    driftwood_rows rows{};  // kRows

    // Whether it wants all tokens of this session computed.
    bool computes(int64_t session) const {
        return (kind == Kind::kPrefill || kind == Kind::kDecode) && target == session;
    }
    bool is_tensor() const { return kind == Kind::kGemm || kind == Kind::kRows; }
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

// What a tensor operation may do to a memory of `memory_bytes`: 0, or a negative errno (guest.h). Called when the guest
// asks and when an image is thawed.
int32_t check_tensor(const driftwood_gemm& gemm, uint64_t memory_bytes);
int32_t check_tensor(const driftwood_rows& rows, uint64_t memory_bytes);
// The guest's wording as the device's. Precondition: check_tensor.
compute::Gemm to_device(const driftwood_gemm& gemm);
compute::Rows to_device(const driftwood_rows& rows);

void encode(file::Encoder& out, const Operation& operation);
void encode(file::Encoder& out, const Completion& completion);
// Decoded fields are bounded by their type alone; whether handles exist and ranges fit is the actor's to check.
Result<Operation> decode_operation(file::Decoder& in);
Result<Completion> decode_completion(file::Decoder& in);

}  // namespace driftwood::actor
