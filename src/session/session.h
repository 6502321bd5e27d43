// Session: one conversation with a model: transcript, tokens, a table of KV blocks, the last logits, and at most one
// running generate. It plans its own forward work; whoever batches (actor/, node/) runs the engine:
//
//   if (auto item = session.plan(chunk)) { engine.step({&*item, 1}); session.commit(*item); }  // pending tokens
//   if (session.can_sample()) session.sample();                                                // the next token
//
// Both are step boundaries: between them a session can be saved, forked or rewound. Invariants: tokens() >= computed();
// blocks cover computed() tokens and rows beyond are zero; last_logits() belong to token computed() - 1 when
// computed() > 0 and they have not been dropped by a rewind.
// Threads: one at a time, the engine's submitting thread. Lifetime: Model and Engine outlive the session.
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

// One message of the conversation and the tokens it became.
struct Part {
    enum class Kind : uint8_t { kText, kTokens };
    Kind kind = Kind::kText;
    std::string role;
    std::string text;          // what was appended, or what the model has said so far
    uint32_t first_token = 0;  // [first_token, end_token) of tokens()
    uint32_t end_token = 0;
    bool open = false;  // the model is still speaking, or stopped without ending its turn
};

enum class Finish : uint8_t { kRunning, kEndOfTurn, kMaxTokens, kContextFull, kClosed };

struct GenerateParams {
    SamplerParams sampler;
    uint32_t max_tokens = 0;  // 0: no limit of its own
};

class Session {
  public:
    Session(const model::Model& model, compute::Engine& engine, BlockRefs& refs);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // ---- Conversation. None of these computes; all fail with kInvalidArgument while a generate runs.
    // Appends a message as the chat template writes it; returns the number of tokens added. An open answer is closed
    // first.
    Result<uint32_t> append(std::string_view role, std::string_view text);
    // Appends raw tokens (a part without text; such a session cannot change its model).
    Result<uint32_t> append_tokens(std::span<const uint32_t> tokens);
    // A session with the same past; blocks are shared until one of both writes.
    Result<std::unique_ptr<Session>> fork() const;
    // Forgets everything after the first `parts` messages; KV rows beyond are cleared.
    Result<void> rewind(uint32_t parts);
    // The model begins its answer (the template's opening is appended).
    Result<void> begin_generate(const GenerateParams& params);
    // Ends a running generate; what was said stays.
    void end_generate();

    // ---- Work. plan(): the next chunk of at most `max_tokens` pending tokens, blocks allocated and unshared, adopted
    // blocks verified; nullopt when nothing is pending. The item points into this session and is valid until commit().
    Result<std::optional<compute::BatchItem>> plan(uint32_t max_tokens);
    Result<void> commit(const compute::BatchItem& item);
    bool can_sample() const;  // a generate runs, nothing is pending, output is not backed up
    Result<void> sample();    // picks the next token; it becomes pending, its text goes to output

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
    // and logits until the writer commits.
    void save(uint32_t id, file::SectionWriter& image) const;
    struct Restored {
        std::unique_ptr<Session> session;
        uint32_t tokens_reused = 0;  // KV mapped from the image
        uint32_t tokens_again = 0;   // to be prefilled again (another model)
    };
    // Maps KV from the image when the image's compute identity is this model's, else re-renders the transcript under
    // this model. `image` must outlive the session (blocks are verified before their first use).
    static Result<Restored> restore(uint32_t id, const model::Model& model, compute::Engine& engine, BlockRefs& refs,
                                    std::shared_ptr<const file::SectionReader> image);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace driftwood::session
