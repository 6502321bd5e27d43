// The second level: whoever holds the session picks the tokens. What they say is the same as if the model had been
// asked to generate them.
#include "file/test_directory.h"
#include "session/session_test.h"

namespace driftwood::session {
namespace {

uint32_t greedy(std::span<const float> logits) {
    return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Picks `count` likeliest tokens, or fewer if one ends the turn.
void pick(const Bench& bench, Session& session, int count) {
    for (int i = 0; i < count; ++i) {
        ASSERT_TRUE(session.want_logits().ok());
        run(bench, session);
        const uint32_t token = greedy(session.last_logits());
        ASSERT_EQ(*session.append_tokens({{token}}), 1u);
        if (bench.model->tokenizer().ends_turn(token)) return;
    }
    run(bench, session);
}

std::unique_ptr<Session> asked(const Bench& bench) {
    auto session = bench.open();
    EXPECT_TRUE(session->append("user", "what is the sea made of").ok());
    return session;
}

void expect_same_conversation(const Bench& bench, const Session& a, const Session& b) {
    EXPECT_EQ(a.tokens(), b.tokens());
    EXPECT_EQ(a.parts(), b.parts());
    EXPECT_EQ(logits_of(a), logits_of(b));
    EXPECT_TRUE(kv_bytes(bench, a) == kv_bytes(bench, b));
}

TEST(PickTest, the_likeliest_tokens_picked_are_a_greedy_answer) {
    const Bench bench = test_bench();
    const auto generated = asked(bench);
    ASSERT_TRUE(generated->begin_generate({.sampler = {}, .max_tokens = 20}).ok());
    run(bench, *generated);
    const auto picked = asked(bench);
    ASSERT_TRUE(picked->begin_answer().ok());
    EXPECT_EQ(picked->finish(), Finish::kPicked);
    pick(bench, *picked, 20);
    // What follows closes both answers, and what was held back of a character in both is told.
    for (Session* each : {generated.get(), picked.get()}) {
        ASSERT_TRUE(each->append("user", "and the sky").ok());
        run(bench, *each);
        ASSERT_TRUE(each->want_logits().ok());
        while (each->computed() < each->tokens().size()) {
            auto item = each->plan(64);
            bench.engine->step({&**item, 1});
            ASSERT_TRUE(each->commit(**item).ok());
        }
    }
    expect_same_conversation(bench, *generated, *picked);
    EXPECT_EQ(picked->output_bytes(), 0u);
}

TEST(PickTest, a_token_that_ends_the_turn_ends_the_answer_and_what_follows_is_raw) {
    constexpr uint32_t kEnd = 4;
    const Bench bench = test_bench();
    const auto session = asked(bench);
    ASSERT_TRUE(session->begin_answer().ok());
    const uint32_t letter = (*bench.model->tokenizer().encode("z", model::Tokenizer::Special::kText))[0];
    EXPECT_GE(*session->append_tokens({{letter, letter, kEnd, letter}}), 4u);
    ASSERT_EQ(session->parts().size(), 3u);
    EXPECT_EQ(session->parts()[1].text, "zz");
    EXPECT_FALSE(session->parts()[1].open);
    EXPECT_EQ(session->parts()[2].kind, Part::Kind::kTokens);
    EXPECT_EQ(session->tokens().back(), letter);
}

TEST(PickTest, a_fork_and_an_image_keep_half_a_character) {
    const Bench bench = test_bench();
    const auto session = asked(bench);
    ASSERT_TRUE(session->begin_answer().ok());
    const auto euro = *bench.model->tokenizer().encode("\u20AC", model::Tokenizer::Special::kText);
    ASSERT_GE(euro.size(), 2u);  // its bytes are tokens of their own
    ASSERT_TRUE(session->append_tokens(std::span(euro).first(1)).ok());
    EXPECT_EQ(session->parts().back().text, "");

    const auto fork = *session->fork();
    const file::TestDirectory directory;
    file::SectionWriter writer;
    run(bench, *session);
    ASSERT_TRUE(session->save(1, writer).ok());
    ASSERT_TRUE(writer.commit(directory.file("image"), {.replace = true, .durable = false}).ok());
    auto reader = file::SectionReader::open(directory.file("image"), file::SectionReader::Hashes::kRequired);
    auto thawed = Session::restore(1, *bench.model, *bench.engine, *bench.refs,
                                   std::make_shared<const file::SectionReader>(*std::move(reader)));
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    EXPECT_EQ(thawed->session->finish(), Finish::kPicked);
    for (Session* each : {session.get(), fork.get(), thawed->session.get()}) {
        ASSERT_TRUE(each->append_tokens(std::span(euro).subspan(1)).ok());
        EXPECT_EQ(each->parts().back().text, "\u20AC");
    }
}

TEST(PickTest, an_answer_rewound_to_a_token_goes_on_as_if_nothing_had_followed) {
    const Bench bench = test_bench();
    const auto whole = asked(bench);
    ASSERT_TRUE(whole->begin_answer().ok());
    pick(bench, *whole, 30);
    const auto rewound = *whole->fork();
    const auto opened = rewound->parts()[1].first_token;
    const auto end = static_cast<uint32_t>(rewound->tokens().size());
    ASSERT_GT(end, opened + 12);
    for (const uint32_t to : {end - 1, opened + 12, opened + 5}) {
        SCOPED_TRACE(to);
        ASSERT_TRUE(rewound->rewind_tokens(to).ok());
        EXPECT_EQ(rewound->tokens().size(), to);
        EXPECT_TRUE(rewound->last_logits().empty());
        ASSERT_TRUE(rewound->append("user", "stop").ok());  // closes what was cut
        ASSERT_TRUE(rewound->rewind_tokens(to).ok());
        EXPECT_TRUE(rewound->parts().back().open);
    }
    pick(bench, *rewound, static_cast<int>(end - rewound->tokens().size()));
    for (Session* each : {whole.get(), rewound.get()}) {
        ASSERT_TRUE(each->want_logits().ok());
        run(bench, *each);
    }
    EXPECT_EQ(rewound->tokens(), whole->tokens());
    EXPECT_EQ(logits_of(*rewound), logits_of(*whole));
    EXPECT_TRUE(kv_bytes(bench, *rewound) == kv_bytes(bench, *whole));
    EXPECT_EQ(rewound->parts(), whole->parts());
}

TEST(PickTest, a_message_that_is_cut_becomes_raw_tokens) {
    const Bench bench = test_bench();
    const auto session = asked(bench);
    const auto size = static_cast<uint32_t>(session->tokens().size());
    ASSERT_TRUE(session->rewind_tokens(size - 3).ok());
    EXPECT_EQ(session->parts()[0].kind, Part::Kind::kTokens);
    EXPECT_EQ(session->rewind_tokens(size).error().code, ErrorCode::kInvalidArgument);
    ASSERT_TRUE(session->rewind_tokens(0).ok());
    EXPECT_TRUE(session->parts().empty());
    EXPECT_EQ(session->want_logits().error().code, ErrorCode::kInvalidArgument);
}

TEST(PickTest, an_answer_stopped_early_can_be_picked_further) {
    const Bench bench = test_bench();
    const auto session = asked(bench);
    ASSERT_TRUE(session->begin_generate({.sampler = {}, .max_tokens = 4}).ok());
    EXPECT_EQ(session->append_tokens({{40u}}).error().code, ErrorCode::kInvalidArgument);  // it runs
    run(bench, *session);
    const std::string said = session->parts()[1].text;
    const uint32_t letter = (*bench.model->tokenizer().encode("z", model::Tokenizer::Special::kText))[0];
    ASSERT_EQ(*session->append_tokens({{letter}}), 1u);
    EXPECT_EQ(session->parts().size(), 2u);
    EXPECT_EQ(session->parts()[1].text, said + "z");
}

}  // namespace
}  // namespace driftwood::session
