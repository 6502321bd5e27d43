// The second level of inference as a guest meets it, and the calls about the model's words.
#include <gtest/gtest.h>

#include "actor/caller.h"
#include "actor/limits.h"
#include "model/gguf_writer.h"

namespace driftwood::actor {
namespace {

constexpr int64_t kText = wasm::kCallerFree;           // a message
constexpr int64_t kTokens = wasm::kCallerFree + 4096;  // token ids
constexpr int64_t kLogits = wasm::kCallerFree + 65536;
constexpr uint32_t kVocab = 512;
constexpr uint32_t kContext = 512;

constexpr int64_t too_small(int64_t needed) { return -(needed << 16 | DRIFTWOOD_E2BIG); }

// A caller with a session that has a user's message.
struct Talk {
    explicit Talk(uint32_t kv_blocks = 256, std::span<const uint8_t> model = test_model_bytes())
        : world("auto", kv_blocks, model), caller(world) {
        caller.write(kText, std::string_view("userWhat is the sea made of?"));
        session = caller.call("session_open");
        asked = append(session);
    }
    int64_t append(int64_t to) { return caller.call("session_append", {to, kText, 4, kText + 4, 24}); }
    std::vector<int64_t> decode(const std::vector<uint32_t>& tokens, int64_t capacity = kVocab) {
        caller.write(static_cast<uint32_t>(kTokens), tokens);
        return {session, kTokens, static_cast<int64_t>(tokens.size()), kLogits, capacity};
    }
    int64_t tokens() { return caller.call("session_tokens", {session}); }
    std::vector<float> logits() {
        std::vector<float> all(kVocab);
        std::memcpy(all.data(), caller.memory(kLogits), kVocab * sizeof(float));
        return all;
    }
    uint32_t likeliest() {
        const auto all = logits();
        return static_cast<uint32_t>(std::max_element(all.begin(), all.end()) - all.begin());
    }

    World world;
    Caller caller;
    int64_t session = 0;
    int64_t asked = 0;
};

TEST(DecodeTest, logits_lie_in_the_guests_memory_and_are_the_sessions) {
    Talk talk;
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({})), kVocab);
    const auto last = talk.caller.actor->sessions()[0]->last_logits();
    EXPECT_EQ(talk.logits(), std::vector<float>(last.begin(), last.end()));
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({40, 41})), kVocab);
    EXPECT_EQ(talk.tokens(), talk.asked + 2);
    EXPECT_EQ(talk.caller.actor->sessions()[0]->tokens().back(), 41U);
    // Nothing new: the same logits again, without a step of the model.
    const auto before = talk.logits();
    std::memset(talk.caller.memory(kLogits), 0, kVocab * sizeof(float));
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({})), kVocab);
    EXPECT_EQ(talk.logits(), before);
}

TEST(DecodeTest, a_guest_that_picks_the_likeliest_says_what_generate_says) {
    Talk talk;
    const int64_t fork = talk.caller.call("session_fork", {talk.session});
    std::vector<uint8_t> options(sizeof(driftwood_generate_options));
    options[12] = 24;  // max_tokens
    talk.caller.write(static_cast<uint32_t>(kTokens), options);
    const int64_t stream = talk.caller.call("generate", {fork, kTokens, static_cast<int64_t>(options.size())});
    std::string generated;
    while (const int64_t size = talk.caller.wait_for("next", {stream, kText + 1024, 256})) {
        ASSERT_GT(size, 0);
        generated.append(reinterpret_cast<const char*>(talk.caller.memory(kText + 1024)), static_cast<size_t>(size));
    }
    EXPECT_FALSE(generated.empty());

    ASSERT_GE(talk.caller.call("session_answer", {talk.session}), 1);
    std::vector<uint32_t> next;
    for (int i = 0; i < 24; ++i) {
        ASSERT_EQ(talk.caller.wait_for("decode", talk.decode(next)), kVocab);
        next = {talk.likeliest()};
        if (talk.caller.call("token_ends_turn", {next[0]}) == 1) break;
    }
    ASSERT_EQ(talk.caller.wait_for("decode", talk.decode(next)), kVocab);
    const auto sessions = talk.caller.actor->sessions();
    EXPECT_EQ(sessions[0]->tokens(), sessions[1]->tokens());
    // A character that was not finished is told at the end of the one; the other could still go on.
    EXPECT_EQ(generated.substr(0, sessions[0]->parts()[1].text.size()), sessions[0]->parts()[1].text);
}

TEST(DecodeTest, forks_and_rewinds_to_a_token_have_the_logits_of_a_life_without_detours) {
    Talk talk;
    ASSERT_EQ(talk.caller.wait_for("decode", talk.decode({40, 41, 42})), kVocab);
    const auto straight = talk.logits();
    ASSERT_EQ(talk.caller.wait_for("decode", talk.decode({50, 51})), kVocab);
    EXPECT_NE(talk.logits(), straight);
    EXPECT_EQ(talk.caller.call("session_rewind_tokens", {talk.session, talk.asked + 2}), 0);
    const int64_t fork = talk.caller.call("session_fork", {talk.session});
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({42})), kVocab);
    EXPECT_EQ(talk.logits(), straight);
    // Rewound to its very end, a session computes its last token again.
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({60})), kVocab);
    EXPECT_EQ(talk.caller.call("session_rewind_tokens", {talk.session, talk.asked + 3}), 0);
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({})), kVocab);
    EXPECT_EQ(talk.logits(), straight);
    talk.session = fork;
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({42})), kVocab);
    EXPECT_EQ(talk.logits(), straight);
    EXPECT_EQ(talk.caller.call("session_rewind_tokens", {fork, 10000}), -DRIFTWOOD_EINVAL);
}

TEST(DecodeTest, what_cannot_be_is_refused_at_the_call_and_appends_nothing) {
    Talk talk;
    auto& caller = talk.caller;
    const auto refused = [&](std::vector<int64_t> arguments) { return caller.call("decode", std::move(arguments)); };
    auto arguments = talk.decode({40, kVocab});
    EXPECT_EQ(refused(arguments), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(refused(talk.decode({40}, kVocab - 1)), too_small(kVocab));
    EXPECT_EQ(refused(talk.decode({40}, 0)), too_small(kVocab));
    arguments = talk.decode({40});
    arguments[3] += 2;
    EXPECT_EQ(refused(arguments), -DRIFTWOOD_EINVAL);
    arguments[3] = wasm::kCallerMemory - 4 * kVocab + 4;
    EXPECT_EQ(refused(arguments), -DRIFTWOOD_EFAULT);
    arguments = talk.decode({40});
    arguments[2] = UINT32_MAX;
    EXPECT_EQ(refused(arguments), -DRIFTWOOD_EFAULT);
    EXPECT_EQ(refused(talk.decode(std::vector<uint32_t>(kContext, 40))), -DRIFTWOOD_ENOSPC);
    EXPECT_EQ(refused(talk.decode(std::vector<uint32_t>(kContext + 1, 40))), -DRIFTWOOD_ENOSPC);
    EXPECT_EQ(talk.tokens(), talk.asked);
    const int64_t empty = caller.call("session_open");
    EXPECT_EQ(refused({empty, kTokens, 0, kLogits, kVocab}), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(refused({77, kTokens, 0, kLogits, kVocab}), -DRIFTWOOD_EBADF);
    EXPECT_TRUE(caller.statuses.empty());
}

TEST(DecodeTest, a_session_that_decodes_is_busy_and_cancelling_frees_it) {
    Talk talk;
    const auto one = talk.decode({40});
    const auto got = talk.caller.call({{"decode", one},
                                       {"decode", one},
                                       {"prefill", {talk.session}},
                                       {"session_append", {talk.session, kText, 4, kText + 4, 5}},
                                       {"session_answer", {talk.session}},
                                       {"session_fork", {talk.session}},
                                       {"session_rewind_tokens", {talk.session, 1}},
                                       {"cancel", {1 << 20}}});
    ASSERT_GT(got[0], 0);
    EXPECT_EQ(std::vector<int64_t>(got.begin() + 1, got.end() - 1), std::vector<int64_t>(6, -DRIFTWOOD_EBUSY));
    EXPECT_EQ(got.back(), -DRIFTWOOD_EBADF);
    EXPECT_EQ(talk.caller.status(got[0]), kVocab);

    std::memset(talk.caller.memory(kLogits), 0x5A, kVocab * sizeof(float));
    const int64_t next_op = got[0] + 2;  // this turn's receive takes one
    const auto cancelled = talk.caller.call({{"decode", talk.decode({41})}, {"cancel", {next_op}}});
    ASSERT_EQ(cancelled, (std::vector<int64_t>{next_op, 0}));
    EXPECT_EQ(talk.caller.status(next_op), -DRIFTWOOD_ECANCELED);
    EXPECT_EQ(talk.caller.read<uint32_t>(kLogits), 0x5A5A5A5AU);
    EXPECT_EQ(talk.tokens(), talk.asked + 2);  // its token stays
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({})), kVocab);

    const auto closed = talk.caller.call({{"decode", talk.decode({42})}, {"session_close", {talk.session}}});
    EXPECT_EQ(talk.caller.status(closed[0]), -DRIFTWOOD_ECANCELED);
}

TEST(DecodeTest, a_full_pool_of_blocks_is_the_operations_error) {
    Talk talk(1);  // 64 tokens
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode(std::vector<uint32_t>(100, 40))), -DRIFTWOOD_ENOMEM);
    EXPECT_EQ(talk.tokens(), talk.asked + 100);
    EXPECT_EQ(talk.caller.call("session_rewind_tokens", {talk.session, talk.asked}), 0);
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({})), kVocab);
}

TEST(DecodeTest, a_model_whose_numbers_break_is_the_operations_error) {
    constexpr model::SynthShape kShape = {.context = kContext};
    model::GgufWriter writer = model::synth_gguf(kShape, 1).value();
    writer.drop("blk.0.ffn_norm.weight");
    const std::vector<float> huge(kShape.d_model, 1e30F);  // gate times up overflows
    const auto* const bytes = reinterpret_cast<const uint8_t*>(huge.data());
    writer.tensor("blk.0.ffn_norm.weight", 0, {kShape.d_model}, {bytes, bytes + huge.size() * sizeof(float)});
    const auto model = writer.finish();
    Talk talk(256, model);
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({40})), -DRIFTWOOD_ENOTFINITE);
    EXPECT_EQ(talk.tokens(), talk.asked + 1);
    EXPECT_EQ(talk.caller.call("session_rewind_tokens", {talk.session, 0}), 0);  // the session is free again
    EXPECT_EQ(talk.caller.wait_for("prefill", {talk.session}), 0);
}

// An engine whose steps fail with what it is told, as those of a card that is full or has failed do.
class FailingSteps final : public compute::Engine {
  public:
    explicit FailingSteps(std::unique_ptr<compute::Engine> engine) : engine_(std::move(engine)) {}
    std::optional<Error> failure_of_steps;

    std::string_view name() const override { return engine_->name(); }
    const compute::DecoderSpec& spec() const override { return engine_->spec(); }
    compute::KvPool& pool() override { return engine_->pool(); }
    void step(std::span<compute::BatchItem> batch) override {
        if (!failure_of_steps) return engine_->step(batch);
        for (compute::BatchItem& item : batch) item.error = failure_of_steps;
    }

  private:
    std::unique_ptr<compute::Engine> engine_;
};

TEST(DecodeTest, a_step_that_fails_says_which_way) {
    World world;
    auto owned = std::make_unique<FailingSteps>(std::move(world.engine));
    FailingSteps& engine = *owned;
    world.engine = std::move(owned);
    Caller caller(world);
    caller.write(kText, std::string_view("userWhat is the sea made of?"));
    const int64_t session = caller.call("session_open");
    const int64_t asked = caller.call("session_append", {session, kText, 4, kText + 4, 24});
    for (const auto& [code, status] :
         {std::pair(ErrorCode::kLimit, -DRIFTWOOD_ENOMEM), std::pair(ErrorCode::kInternal, -DRIFTWOOD_EIO),
          std::pair(ErrorCode::kNotFinite, -DRIFTWOOD_ENOTFINITE)}) {
        engine.failure_of_steps = error(code, "[test] no step");
        EXPECT_EQ(caller.wait_for("prefill", {session}), status);
    }
    engine.failure_of_steps.reset();  // it concerned those steps alone
    EXPECT_EQ(caller.wait_for("prefill", {session}), asked);
}

TEST(DecodeTest, an_answer_with_output_left_is_not_picked_further) {
    Talk talk;
    std::vector<uint8_t> options(sizeof(driftwood_generate_options));
    options[12] = 4;
    talk.caller.write(static_cast<uint32_t>(kTokens), options);
    const int64_t stream = talk.caller.call("generate", {talk.session, kTokens, 24});
    EXPECT_EQ(talk.caller.call("decode", talk.decode({40})), -DRIFTWOOD_EBUSY);
    EXPECT_EQ(talk.caller.call("stream_close", {stream}), 0);
    EXPECT_EQ(talk.caller.wait_for("decode", talk.decode({40})), kVocab);
    EXPECT_EQ(talk.caller.actor->sessions()[0]->parts().size(), 2U);  // the answer went on
}

TEST(WordsTest, tokens_of_a_text_and_back) {
    Talk talk;
    auto& caller = talk.caller;
    const std::string text = "The sea, and <|end|> of it: \u20AC";
    caller.write(kText, text);
    const auto size = static_cast<int64_t>(text.size());
    const int64_t count = caller.call("tokenize", {kText, size, kTokens, 1000});
    ASSERT_GT(count, 5);
    const auto ids = talk.world.model->tokenizer().encode(text, model::Tokenizer::Special::kText).value();
    ASSERT_EQ(count, static_cast<int64_t>(ids.size()));
    for (uint32_t i = 0; i < ids.size(); ++i) EXPECT_EQ(caller.read<uint32_t>(kTokens + 4 * i), ids[i]);
    EXPECT_EQ(caller.call("detokenize", {kTokens, count, kText + 2048, 1000}), size);
    EXPECT_EQ(std::memcmp(caller.memory(kText + 2048), text.data(), text.size()), 0);
    EXPECT_EQ(caller.call("tokenize", {kText, 0, kTokens, 0}), 0);
    EXPECT_EQ(caller.call("detokenize", {kTokens, 0, kText, 0}), 0);
}

TEST(WordsTest, a_buffer_too_small_says_what_is_needed_and_stays_as_it_was) {
    Talk talk;
    auto& caller = talk.caller;
    caller.write(kText, std::string_view("hello there"));
    const int64_t count = caller.call("tokenize", {kText, 11, kTokens, 100});
    std::memset(caller.memory(kTokens + 512), 0x77, 64);
    EXPECT_EQ(caller.call("tokenize", {kText, 11, kTokens + 512, count - 1}), too_small(count));
    EXPECT_EQ(caller.call("detokenize", {kTokens, count, kTokens + 512, 10}), too_small(11));
    EXPECT_EQ(caller.read<uint64_t>(kTokens + 512), 0x7777777777777777U);
    EXPECT_EQ(caller.call("tokenize", {kText, 11, kTokens + 512, count}), count);
}

TEST(WordsTest, what_is_no_text_and_no_token_is_refused) {
    Talk talk;
    auto& caller = talk.caller;
    caller.write(kText, std::string_view("\xFF\xFE"));
    EXPECT_EQ(caller.call("tokenize", {kText, 2, kTokens, 100}), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(caller.call("tokenize", {0, kMaxTokenizeBytes + 1, kTokens, 100}), -DRIFTWOOD_EOVERFLOW);
    caller.write(kTokens, std::vector<uint32_t>{kVocab});
    EXPECT_EQ(caller.call("detokenize", {kTokens, 1, kText, 100}), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(caller.call("detokenize", {0, kMaxDetokenizeTokens + 1, kText, 100}), -DRIFTWOOD_EOVERFLOW);
    EXPECT_EQ(caller.call("token_ends_turn", {kVocab}), -DRIFTWOOD_EINVAL);
    EXPECT_EQ(caller.call("token_ends_turn", {40}), 0);
    EXPECT_EQ(caller.call("token_ends_turn", {4}), 1);
    EXPECT_EQ(caller.call("model_info", {kText, 8}), 0);
    EXPECT_EQ(caller.read<uint32_t>(kText), kVocab);
    EXPECT_EQ(caller.read<uint32_t>(kText + 4), kContext);
}

}  // namespace
}  // namespace driftwood::actor
