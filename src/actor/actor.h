// Actor: a guest instance with identity, mailbox, operations and conversations.
//
//   while (actor.wake(), actor.state() == Actor::State::kReady) perform(actor.step());
//
// The order of events is part of the state: a step does exactly one of these, in this order of precedence: the first
// turn; the oldest completion (a turn); the oldest tensor operation; one token of every session that can be sampled;
// one chunk of forward work for all sessions together. Operations start after the turn that issued them. Every boundary
// between two steps is a place to freeze: nothing is on a stack then.
//
// Where many actors share an engine, a forward step is taken in two halves, so that one step of the engine serves them
// all. An actor's forward step is never divided, so the order of its events is what it would be alone:
//
//   actor.reuse_prefix();                                // takes over what others have computed, where that is shared
//   actor.plan_forward(batch, tokens, FullPool::kWait);  // of each actor whose next() is kForward
//   batch.run();
//   perform(actor.commit_forward(batch));                // of each
//
// Errors: a trap, a deadline or a corrupt KV block ends the actor (kFailed; every later call returns that error);
// neither the process nor another actor is touched. Threads: one at a time, the engine's submitting thread; but a step
// whose next() is kSample touches this actor alone and may run on any thread. Lifetime: everything in Context, and the
// Module, outlive the actor.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ports.h"
#include "base/result.h"
#include "compute/device.h"
#include "compute/engine.h"
#include "file/section.h"
#include "model/model.h"
#include "session/batch.h"
#include "session/block_table.h"
#include "session/session.h"
#include "wasm/instance.h"

namespace driftwood::actor {

inline constexpr uint32_t kImageVersion = 1;

struct Context {
    const model::Model& model;
    compute::Engine& engine;
    session::BlockRefs& blocks;
    compute::Device& device;
    Clock& clock;
    Entropy& entropy;
};

struct ActorOptions {
    wasm::InstanceLimits limits;
    wasm::WasiOptions wasi;  // of a newborn; a thawed actor keeps its own
};

// What a turn wants done outside. Performed by whoever steps the actor, in order. (turn, index) is the same in a repeat
// of the same turn, so that a receiver can tell a repeat from something new.
struct Effect {
    enum class Kind : uint8_t { kReply, kLog };
    Kind kind = Kind::kReply;
    bool last = false;  // kReply: ends the answer to the current message
    int32_t level = 0;  // kLog: driftwood_log_level
    std::string bytes;
    uint64_t turn = 0;
    uint32_t index = 0;
};

struct Step {
    enum class Kind : uint8_t { kNothing, kTurn, kTensor, kSample, kForward };
    Kind kind = Kind::kNothing;  // kNothing: the actor waits
    std::vector<Effect> effects;
    uint32_t tokens = 0;         // sampled, or computed forward
    std::optional<Error> error;  // the actor failed in this step
};

// What an actor wants computed forward.
struct ForwardWork {
    uint32_t sessions = 0;  // that want some
    uint32_t tokens = 0;    // of the step that step() would make
    uint32_t pending = 0;   // of all steps until nothing is pending
};

// What becomes of a session for which the pool of KV blocks has no room.
enum class FullPool : uint8_t {
    kFail,  // what it computes fails: a generate, prefill or decode ends with -ENOMEM, the actor lives on
    kWait,  // the whole step is put off
};

using ActorId = std::array<uint8_t, 16>;

class Actor {
  public:
    enum class State : uint8_t {
        kReady,    // step() has something to do
        kWaiting,  // only a message or a timer can wake it
        kStopped,  // the guest called proc_exit
        kFailed,
    };

    // A newborn whose first turn has not run yet.
    static Result<std::unique_ptr<Actor>> create(const Context& context, const wasm::Module& module,
                                                 const ActorOptions& options);

    struct Thawed {
        std::unique_ptr<Actor> actor;
        uint32_t tokens_reused = 0;  // KV mapped from the image
        uint32_t tokens_again = 0;   // to be prefilled again, because the model is another one
    };
    // The actor that freeze() wrote. Verifies state and linear memory at once (verify_guest), maps memory and KV from
    // the image; each KV block is verified before its first use. `module` must be the image's own (module_hash).
    static Result<Thawed> thaw(const Context& context, const wasm::Module& module, const ActorOptions& options,
                               std::shared_ptr<const file::SectionReader> image);

    virtual ~Actor() = default;

    virtual State state() const = 0;
    virtual const Error& failure() const = 0;  // precondition: kFailed
    virtual std::optional<int32_t> exit_code() const = 0;
    virtual const ActorId& id() const = 0;
    virtual int64_t clock_ns() const = 0;  // time of the last turn; never runs backwards
    virtual uint64_t turns() const = 0;
    virtual size_t completions_waiting() const = 0;

    // Puts a message into the mailbox. kLimit when it is full or the message too long.
    virtual Result<void> send(std::string_view message) = 0;
    // Completes the timers whose time has come by the clock, in order of their deadlines: an event from outside, as a
    // message is. Whether there were any.
    virtual bool wake() = 0;
    // How long by the clock until the next timer is due (0: wake() is due now); nothing if none is set.
    virtual std::optional<int64_t> next_timer_in_ns() = 0;
    virtual bool listens() const = 0;  // waits for a message, whatever else it waits for
    virtual Step step() = 0;

    virtual Step::Kind next() const = 0;           // what step() would do; kNothing: it waits, has stopped or failed
    virtual ForwardWork forward_work() const = 0;  // preconditions of these four: next() is kForward
    // Blocks that actors of the same module have computed of the same beginning stand in for as many chunks of the
    // session with work, if that is one alone (nobody can tell); how many tokens. Something stays to be computed. The
    // guest is told of these tokens as of all others: what it sees does not depend on who else is there.
    virtual uint32_t reuse_prefix() = 0;
    // Plans the forward step into `batch`. An actor with work for one session only takes several chunks at once where
    // `max_tokens` has room for them, which nobody can tell from one after the other; else `max_tokens` changes
    // nothing. False: the pool is full and the step was put off; nothing happened. After true, nothing but
    // commit_forward() may be done with the actor.
    virtual bool plan_forward(session::Batch& batch, uint32_t max_tokens, FullPool full) = 0;
    // The other half, after the batch has run.
    virtual Step commit_forward(const session::Batch& batch) = 0;

    // Writes the image of this actor; it lives on unchanged. Not for a failed or stopped one.
    virtual Result<file::SectionWriter::Committed> freeze(const std::string& path,
                                                          file::SectionWriter::CommitOptions options) = 0;

    virtual wasm::Instance& instance() = 0;
    virtual std::vector<const session::Session*> sessions() const = 0;  // in order of their handles

  protected:
    Actor() = default;
};

// Checks the hashes of everything in an image but KV: module, linear memory, state of actor and sessions.
Result<void> verify_guest(const file::SectionReader& image);

// What an image says about itself (metadata; checked by hash with the root, believed by nobody else).
struct ImageSummary {
    std::string model_name;
    std::string compute_identity;  // hex
    std::string text_identity;
    std::string module_hash;
    std::string created;
    std::string parent_image;
    std::string root_hash;
    uint32_t activation_bits = 8;  // of the model it was made with
};
Result<ImageSummary> summarize(const file::SectionReader& image);

}  // namespace driftwood::actor
