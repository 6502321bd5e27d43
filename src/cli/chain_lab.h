// The measurements behind `driftwood chain`. Each returns JSON that says what was measured; times are medians over
// rounds, by the monotonic clock, of calls by the thread's own CPU time. An error means that it could not be measured,
// never that the figure is bad.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/conversation.h"
#include "cli/output.h"
#include "compute/device.h"
#include "node/node.h"

namespace driftwood::cli {

struct LabOptions {
    std::vector<uint32_t> gemm_sizes;  // of square matrices
    std::vector<uint64_t> copy_bytes;  // of the guest memory that is worked on in place and copied
    uint64_t gemm_check_steps = 0;     // multiplications that are checked against float64 and the reference, per size
    int rounds = 0;                    // of every short measurement
    uint32_t actors = 0;               // idle ones, alive at once
    std::function<void(const std::string&)> progress;  // what is being measured now
};

// The actor of guests/laboratory.
class LabGuest {
  public:
    static Result<LabGuest> create(node::Node& node);

    struct Answer {
        uint32_t error = 0;            // a driftwood_errno
        uint32_t a = 0, b = 0, c = 0;  // offsets in linear memory
    };
    // Sends the message and steps the actor until it has answered; kInternal when it answers with an error.
    Result<Answer> ask(const std::string& message);
    int64_t tensor_ns() const { return tensor_ns_; }  // of the tensor steps of the last ask

    wasm::Instance& instance() { return conversation_->actor().instance(); }
    memory::Region& memory() { return instance().memory(); }

  private:
    LabGuest() = default;
    std::unique_ptr<Conversation> conversation_;
    int64_t tensor_ns_ = 0;
};

// Where guest, Region and device see the same byte of `guest`'s memory: {guest_pointer, …, pointer_identity}.
Json lab_pointers(LabGuest& guest, const compute::Device& device);

// What crossed the bus to a device with memory of its own: {bus: {…}}; nothing otherwise.
Json lab_traffic(const compute::Device& device);

// Products of each size, asked for by the guest, in place and through an explicit copy: times, errors, bits.
Result<Json> lab_gemm(LabGuest& guest, compute::Device& device, const LabOptions& options);

// Resident memory that in-place work and work on an explicit copy add, and how long both take.
Result<Json> lab_copies(LabGuest& guest, compute::Device& device, const LabOptions& options);

// What it costs to cross the guest boundary in either direction.
Result<Json> lab_calls(LabGuest& guest, const LabOptions& options);

// Birth of an actor (the chat guest, compiled before) and what an idle one keeps.
Result<Json> lab_actors(node::Node& node, const LabOptions& options);

double median(std::vector<double> values);  // of at least one
double ms_since(int64_t begin_ns);
int64_t monotonic_ns();

}  // namespace driftwood::cli
