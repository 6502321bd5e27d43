// Session: one conversation with a model: transcript, tokens, a table of KV blocks, the last logits, and at most one
// running generate. It plans its own forward work; whoever batches (actor/, node/) runs the engine:
//
//   auto item = session.plan(chunk);                              // the next pending tokens, as an item of a batch
//   if (*item) { engine.step({&**item, 1}); session.commit(**item); }
//   if (session.can_sample()) session.sample();                   // pick the next token; it becomes pending
//
// Where beginnings of conversations are shared, reuse() before plan() takes over what is there already.
//
// Between them a session can be saved, forked, rewound or dropped; between plan() and commit() nothing else may be done
// with it but another plan(), drop_plan() or its end (kInvalidArgument).
//
// Invariants: computed() <= tokens().size() <= the model's context; parts() cover tokens() without gaps; blocks() hold
// computed() tokens and the rows beyond are zeros; last_logits() are those of token computed() - 1, or empty (nothing
// was computed since, or they went with a rewind). A call that fails leaves the session as it was. Threads: one at a
// time, the engine's submitting thread. Lifetime: model, engine and refs outlive the session.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/engine.h"
#include "file/encoding.h"
#include "file/section.h"
#include "model/model.h"
#include "session/block_table.h"
#include "session/sampler.h"

namespace driftwood::session {

inline constexpr size_t kMaxUndelivered = 64 * 1024;  // bytes of output that may wait before sampling pauses

// One message of the conversation and the tokens it became, those that the chat template writes around it included.
struct Part {
    enum class Kind : uint8_t { kText, kTokens };
    Kind kind = Kind::kText;
    std::string role;          // empty for raw tokens
    std::string text;          // what was appended, or what the model has said so far; UTF-8
    uint32_t first_token = 0;  // [first_token, end_token) of tokens()
    uint32_t end_token = 0;
    bool open = false;  // the model is still speaking, or stopped without ending its turn
    bool operator==(const Part&) const = default;
};

enum class Finish : uint8_t {
    kRunning,
    kEndOfTurn,
    kMaxTokens,
    kContextFull,
    kClosed,  // by end_generate(), or there was none
    kPicked,  // none runs: an answer is open whose tokens come through append_tokens()
};

struct GenerateParams {
    SamplerParams sampler;
    uint32_t max_tokens = 0;  // 0: no limit of its own
};

class Session {
  public:
    // `domain`: with whom it may share the beginning of its tokens, where `refs` has any shared; nullopt: with nobody.
    Session(const model::Model& model, compute::Engine& engine, BlockRefs& refs,
            const std::optional<TrustDomain>& domain = std::nullopt);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // ---- Conversation. None of these computes; all fail with kInvalidArgument while a generate runs, and with kLimit
    // when the context has no room.
    // Appends a message as the chat template writes it (chat_format.h says how); returns the number of tokens added. An
    // answer that is still open is closed first: what the template writes behind an answer joins that answer's part.
    Result<uint32_t> append(std::string_view role, std::string_view text);
    // Appends tokens of the caller's own choosing. They go on with an open answer and their text joins it, up to one
    // that ends the turn. What is no answer becomes a part without text, behind what closes the answer before it; a
    // session with such a part cannot change its model. Returns the number of tokens added, closing ones included.
    Result<uint32_t> append_tokens(std::span<const uint32_t> tokens);
    // The model's turn to speak, with tokens picked by the caller: closes an open answer, appends the template's
    // opening. Returns the number of tokens added.
    Result<uint32_t> begin_answer();
    // A session with the same past; blocks are shared until one of both writes. Undelivered output stays with this one.
    Result<std::unique_ptr<Session>> fork() const;
    // Forgets everything after the first `parts` messages, undelivered output of a forgotten answer too; KV rows beyond
    // are cleared.
    Result<void> rewind(uint32_t parts);
    // Forgets everything after the first `count` tokens. An answer that is cut is open again and says what its tokens
    // say; any other message that is cut becomes raw tokens.
    Result<void> rewind_tokens(uint32_t count);
    // The model begins its answer: closes an open one, appends the template's opening. What was not taken of an earlier
    // answer's output is dropped. An answer that has no room to begin ends at once (kContextFull).
    Result<void> begin_generate(const GenerateParams& params);
    // Ends a running generate; what was said stays.
    void end_generate();

    // ---- Work. reuse(): takes over blocks that others have computed of the same beginning, as if the pending tokens
    // in them had been computed by as many whole chunks of kBlockTokens; how many tokens. At least one stays pending,
    // for its logits. Nothing of a session that goes on from an image's KV, nor of one whose computed tokens end inside
    // a block: its chunks would have other ends.
    uint32_t reuse();
    // plan(): the next chunk of at most `max_tokens` (at least 1) pending tokens, blocks allocated and
    // unshared, adopted blocks verified (kCorrupt: the image is bad, and so is this session); nullopt when nothing is
    // pending. kLimit: the pool is full. The item points into this session and is valid until commit(), which takes the
    // same item after the engine's step and hands on its error, if it has one; then nothing of it is kept.
    Result<std::optional<compute::BatchItem>> plan(uint32_t max_tokens);
    Result<void> commit(const compute::BatchItem& item);
    // Takes back a plan that is not carried out, with the blocks that it took.
    void drop_plan();
    // Sees to it that there are logits once nothing is pending, where a rewind took them: the last token is forwarded
    // again then. kInvalidArgument while a generate runs, and when there are no tokens.
    Result<void> want_logits();
    bool can_sample() const;  // a generate runs, nothing is pending, less than kMaxUndelivered waits
    // Picks the next token; it becomes pending, its text goes to output. A token that ends the turn has no text.
    // kNotFinite: the logits are no numbers.
    Result<void> sample();

    // ---- Output of the running (or ended, not yet drained) generate.
    Finish finish() const;
    size_t output_bytes() const;                 // whole UTF-8 characters that are ready
    size_t take_output(std::span<uint8_t> out);  // moves up to out.size() bytes, whole characters only

    const std::vector<uint32_t>& tokens() const;
    uint32_t computed() const;
    std::span<const float> last_logits() const;  // empty, or [vocab]
    const std::vector<Part>& parts() const;
    std::span<const compute::BlockId> blocks() const;

    // ---- Freeze and thaw. Writes tensors `session.<id>.kv`, `.tokens`, `.logits`, `.transcript`, `.state`; borrows KV
    // and logits until the writer commits. Blocks that came from an image and were never used are verified first
    // (kCorrupt). Where the engine's device failed and took blocks with it, everything is pending again, in the image
    // too.
    Result<void> save(uint32_t id, file::SectionWriter& image) const;
    struct Restored {
        std::unique_ptr<Session> session;
        uint32_t tokens_reused = 0;  // KV mapped from the image
        uint32_t tokens_again = 0;   // to be prefilled again (another model)
    };
    // Maps KV from the image when the image's compute identity is this model's (but where the same beginning is shared
    // here already), else re-renders the transcript under this model. `image` must outlive the session (blocks are
    // verified before their first use).
    static Result<Restored> restore(uint32_t id, const model::Model& model, compute::Engine& engine, BlockRefs& refs,
                                    std::shared_ptr<const file::SectionReader> image,
                                    const std::optional<TrustDomain>& domain = std::nullopt);

    struct State;  // session_state.h

  private:
    std::unique_ptr<State> state_;
};

}  // namespace driftwood::session
