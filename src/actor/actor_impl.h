// The one implementation of Actor, private to this folder: actor.cc steps, forward.cc does so where the engine is
// needed, guest_calls.cc answers the guest, image.cc freezes and thaws.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actor/actor.h"
#include "actor/operations.h"

namespace driftwood::actor {

// A forward step between its two halves: what went into the batch.
struct ForwardStep {
    Step step;
    size_t first_item = 0;         // of the batch
    std::vector<int64_t> handles;  // of its items
    bool long_chunk = false;       // more than a chunk of one session
};

class ActorImpl final : public Actor, private wasm::GuestHost {
  public:
    explicit ActorImpl(const Context& context, const wasm::Module& module) : context_(context), module_(module) {}

    Result<void> be_born(const ActorOptions& options);
    Result<Thawed> restore(const ActorOptions& options, std::shared_ptr<const file::SectionReader> image);

    State state() const override;
    const Error& failure() const override;
    std::optional<int32_t> exit_code() const override { return instance_->exit_code(); }
    const ActorId& id() const override { return id_; }
    int64_t clock_ns() const override { return turn_ns_; }
    uint64_t turns() const override { return turns_; }
    size_t completions_waiting() const override { return completions_.size(); }
    Result<void> send(std::string_view message) override;
    bool wake() override;
    std::optional<int64_t> next_timer_in_ns() override;
    bool listens() const override;
    Step step() override;
    Step::Kind next() const override;
    ForwardWork forward_work() const override;
    uint32_t reuse_prefix() override;
    bool plan_forward(session::Batch& batch, uint32_t max_tokens, FullPool full) override;
    Step commit_forward(const session::Batch& batch) override;
    Result<file::SectionWriter::Committed> freeze(const std::string& path,
                                                  file::SectionWriter::CommitOptions options) override;
    wasm::Instance& instance() override { return *instance_; }
    std::vector<const session::Session*> sessions() const override;

  private:
    // ---- GuestHost (guest_calls.cc)
    void log(int32_t level, std::string_view line) override;
    void wasi_write(int fd, std::string_view bytes) override;
    int64_t now_ns() override { return turn_ns_; }
    void random(std::span<uint8_t> out) override;
    int32_t reply(std::span<const uint8_t> bytes, bool last) override;
    int64_t receive(wasm::GuestRange out) override;
    int32_t cancel(int64_t op) override;
    int64_t sleep(int64_t ns) override;
    driftwood_model_info model_info() override;
    int64_t tokenize(std::string_view text, wasm::GuestArray<uint32_t> out) override;
    int64_t detokenize(wasm::GuestArray<uint32_t> tokens, std::span<uint8_t> out) override;
    int32_t token_ends_turn(uint32_t token) override;
    int64_t session_open() override;
    int32_t session_close(int64_t session) override;
    int64_t session_append(int64_t session, std::string_view role, std::string_view text) override;
    int64_t session_tokens(int64_t session) override;
    int64_t session_fork(int64_t session) override;
    int32_t session_rewind(int64_t session, uint32_t messages) override;
    int32_t session_rewind_tokens(int64_t session, uint32_t tokens) override;
    int64_t session_answer(int64_t session) override;
    int64_t decode(int64_t session, wasm::GuestArray<uint32_t> tokens, wasm::GuestFloats logits) override;
    int64_t prefill(int64_t session) override;
    int64_t generate(int64_t session, const driftwood_generate_options& options) override;
    int64_t next(int64_t stream, wasm::GuestRange out) override;
    int32_t stream_close(int64_t stream) override;
    int64_t gemm(const driftwood_gemm& gemm) override;
    int64_t rows(const driftwood_rows& rows) override;

    // ---- Steps (actor.cc)
    int64_t read_clock();  // in the actor's own time
    void begin_turn();
    void end_lines();
    void end_turn(Step& step, const Result<void>& outcome);
    void deliver(Step& step);
    void check_memory(Step& step);
    void run_tensor(Step& step);
    void run_sample(Step& step);
    void end_step(Step& step);
    void fail(Step& step, Error error);

    // ---- Forward steps (forward.cc)
    // The module: whoever runs the same program may share beginnings of conversations.
    session::TrustDomain trust_domain() const { return {module_.facts().hash}; }
    bool wants_forward(int64_t handle, const session::Session& session) const;
    bool plan_session(session::Batch& batch, int64_t handle, uint32_t chunk, FullPool full);
    void note_progress(int64_t handle, uint32_t tokens);
    void commit_session(const session::Batch::Outcome& outcome, int64_t handle);
    // Turns operations that can complete into completions, in the order in which they were issued.
    void settle();
    std::optional<Completion> try_complete(const Operation& operation);
    std::optional<Completion> try_receive(const Operation& operation);
    std::optional<Completion> try_next(const Operation& operation);
    // Once everything is computed, the logits go to where the guest wants them.
    std::optional<Completion> try_decode(const Operation& operation);
    // A model error ends the generate, prefill and decode of this session, not the actor.
    void session_failed(int64_t handle, int64_t status);

    // ---- Helpers of guest calls
    bool no_room_for_operations() const;
    int64_t issue(Operation operation);
    void drop_operations(Operation::Kind kind, int64_t target);
    session::Session* find_session(int64_t handle);
    Stream* live_stream(int64_t session);
    bool busy(int64_t handle, const session::Session& session) const;
    // As busy(), or output of an answer has not been fetched.
    bool busy_speaking(int64_t handle, const session::Session& session) const;
    // Logs why, and says it as an errno.
    int64_t refused(const Error& error);
    void flush_lines(int fd, std::string& buffer);
    bool effects_have_room(size_t bytes) const;  // in this turn, for one more of that size
    void push_effect(Effect effect);
    std::vector<Effect> take_effects();

    // ---- Image (image.cc)
    void encode_state(file::Encoder& out) const;
    Result<void> decode_state(file::Decoder& in, std::vector<uint32_t>& session_ids);
    Result<void> check_restored(const std::string& what) const;
    bool can_be(const Operation& operation) const;

    Context context_;
    const wasm::Module& module_;
    std::unique_ptr<wasm::Instance> instance_;
    std::optional<Error> failure_;
    std::string parent_image_;  // root hash of the last image, hex; empty for a newborn

    // What an image holds.
    ActorId id_{};
    bool started_ = false;
    uint64_t turns_ = 0;
    int64_t turn_ns_ = 0;
    uint64_t random_seed_ = 0;
    uint64_t random_counter_ = 0;
    int64_t next_id_ = 1;               // operations and streams
    uint32_t next_session_ = 1;         // session handles
    std::array<std::string, 2> lines_;  // unfinished lines of WASI stdout and stderr
    std::deque<std::string> mailbox_;
    std::vector<Operation> operations_;  // in order of issue
    std::deque<Completion> completions_;
    std::map<int64_t, Stream> streams_;
    std::map<int64_t, std::unique_ptr<session::Session>> sessions_;

    std::optional<ForwardStep> forward_;  // between plan_forward and commit_forward
    bool chunk_by_chunk_ = false;         // a long chunk failed: which of its chunks it was is for single ones to find

    // Of the running turn.
    std::vector<Effect> effects_;
    size_t effect_bytes_ = 0;
    int64_t clock_offset_ns_ = 0;  // added to the clock, so that time goes on where the last machine's clock was
    bool clock_checked_ = false;
};

}  // namespace driftwood::actor
