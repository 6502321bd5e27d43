// What a Session is made of: shared by the files that implement it, for nobody else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "session/session.h"
#include "session/utf8_stream.h"

namespace driftwood::session {

// Whether the last part is an answer behind which the template's closing text is still to come.
enum class Tail : uint8_t {
    kClosed,  // no
    kOpen,    // yes, all of it
    kEnded,   // yes, except the end-of-turn token, which the model gave
};

// A generate that runs, or has ended and may have output left; or (kPicked) an answer that others pick, which has only
// a part and characters.
struct Generate {
    GenerateParams params;
    Finish finish = Finish::kRunning;
    uint32_t part = 0;      // of parts: the answer
    uint32_t produced = 0;  // tokens sampled; the sampler's counter
    std::string output;     // not delivered yet; whole characters
    Utf8Stream characters;

    static Generate picked(uint32_t part, Utf8Stream characters) {
        return {.params = {},
                .finish = Finish::kPicked,
                .part = part,
                .produced = 0,
                .output = {},
                .characters = std::move(characters)};
    }
};

struct Session::State {
    State(const model::Model& m, compute::Engine& e, BlockRefs& r) : model(m), engine(e), refs(r) {}
    ~State();

    const model::Model& model;
    compute::Engine& engine;
    BlockRefs& refs;

    std::vector<uint32_t> tokens;
    uint32_t computed = 0;
    std::vector<compute::BlockId> blocks;
    // Of the beginning that it shares: the key before the first block (nullopt: it shares nothing), and those of the
    // first full blocks, which this node computed: all of the computed tokens' unless from_image. An image's KV is
    // nobody's word but the image's: it, and what was computed from it, are not for others to find.
    std::optional<PrefixKey> prefix_root;
    std::vector<PrefixKey> prefix_keys;
    bool from_image = false;
    compute::Logits logits;
    std::vector<Part> parts;
    Tail tail = Tail::kClosed;
    std::optional<Generate> generate;

    // Blocks that came from an image and have not been verified: indices into `blocks`, which are the image's too.
    std::vector<uint32_t> unverified;
    std::shared_ptr<const file::SectionReader> image;
    file::TensorInfo image_kv;
    std::string image_what;  // names the tensor in errors

    // Between plan() and commit().
    uint32_t planned = 0;  // tokens
    compute::Logits step_logits;

    bool running() const { return generate && generate->finish == Finish::kRunning; }
    uint32_t context() const { return model.spec().context; }
    // kInvalidArgument while a generate runs or a step is under way.
    Result<void> check_idle(const char* operation) const;
    Result<void> check_room(const char* operation, size_t more) const;
    std::vector<std::string> roles() const;  // of the text parts

    // The tokens that close the last part, were its tail this one; none when there is nothing to close.
    Result<std::vector<uint32_t>> closing(Tail last) const;
    Result<std::vector<uint32_t>> closing() const { return closing(tail); }
    // Adds them to the answer's part.
    void close(const std::vector<uint32_t>& closing_tokens);
    void add_part(Part part, std::span<const uint32_t> part_tokens);

    // ---- Blocks.
    Result<void> verify_block(uint32_t index);
    Result<void> verify_all_blocks();
    // Makes block `index` this session's alone, keeping the rows of its first `rows` tokens.
    Result<void> own_block(uint32_t index, uint32_t rows);
    // kIo when a file under any of the blocks became unreadable.
    Result<void> check_intact() const;
    // KV of the first `count` tokens only; logits go.
    Result<void> truncate(uint32_t count);
    void drop_blocks(uint32_t keep);
    // The key of full block prefix_keys.size().
    PrefixKey next_prefix_key() const;
    // Full blocks that are new can be found by others.
    void publish_prefix();
    // Everything is pending again.
    void forget_computed();

    // ---- Answers.
    // Closes an open answer and opens one with the template's opening; the tokens added.
    Result<uint32_t> open_answer(const char* operation, const GenerateParams& params, Finish finish);
    // Tokens that go on with the open answer; only the last may end the turn.
    void pick(std::span<const uint32_t> picked);
    void say(std::string_view text);  // to the answer, and to the output of a generate that runs
    void end(Finish finish);
};

// The end of an answer that has used up the context or its tokens, if it has.
std::optional<Finish> limit_reached(const Session::State& state);

}  // namespace driftwood::session
