// Conversations that begin in the same way: what one has computed the others take over, and nothing else changes.
#include "file/test_directory.h"
#include "session/batch.h"
#include "session/session_test.h"

namespace driftwood::session {
namespace {

constexpr TrustDomain kOurs{{1}}, kTheirs{{2}};
constexpr uint32_t kIdle = 8;

Bench sharing_bench(uint32_t idle = kIdle, uint32_t kv_blocks = 64) {
    Bench bench = bench_of(test_writer(), kv_blocks);
    bench.refs = std::make_unique<BlockRefs>(bench.engine->pool(), 1, idle);
    return bench;
}

std::unique_ptr<Session> open(const Bench& bench, const TrustDomain& domain = kOurs) {
    return std::make_unique<Session>(*bench.model, *bench.engine, *bench.refs, domain);
}

std::vector<uint32_t> prompt(uint32_t tokens, uint32_t seed = 0) {
    std::vector<uint32_t> out(tokens);
    for (uint32_t i = 0; i < tokens; ++i) out[i] = 5 + (i * 37 + seed * 11 + i / 50) % 250;
    return out;
}

// Computes what is pending, taking over what it can first; how many tokens it computed.
uint32_t compute(const Bench& bench, Session& session, uint32_t chunk = 512) {
    session.reuse();
    const uint32_t before = session.computed();
    while (session.computed() < session.tokens().size() && step(bench, session, chunk)) {
    }
    return session.computed() - before;
}

// The same conversation where nothing is shared.
class Alone {
  public:
    explicit Alone(std::span<const uint32_t> tokens) : bench_(test_bench()), session_(bench_.open()) {
        EXPECT_TRUE(session_->append_tokens(tokens).ok());
        run(bench_, *session_);
    }
    void expect_same(const Bench& bench, const Session& session) const {
        expect_equal(bench, session, bench_, *session_);
    }

  private:
    Bench bench_;
    std::unique_ptr<Session> session_;
};

std::unique_ptr<Session> told(const Bench& bench, std::span<const uint32_t> tokens, const TrustDomain& domain = kOurs) {
    auto session = open(bench, domain);
    EXPECT_TRUE(session->append_tokens(tokens).ok());
    return session;
}

uint32_t in_use(const Bench& bench) { return bench.engine->pool().blocks_in_use(); }

TEST(PrefixTest, the_second_conversation_computes_what_is_new_and_gets_the_same_bits) {
    const Bench bench = sharing_bench();
    std::vector<uint32_t> tokens = prompt(200);
    const auto first = told(bench, tokens);
    EXPECT_EQ(compute(bench, *first, 31), 200U);
    tokens.resize(150);  // the same two blocks, then something else
    for (uint32_t i = 0; i < 40; ++i) tokens.push_back(7 + i);
    const auto second = told(bench, tokens);
    EXPECT_EQ(compute(bench, *second), 190U - 128);
    EXPECT_EQ(in_use(bench), 4U + 1);
    Alone(prompt(200)).expect_same(bench, *first);
    Alone(tokens).expect_same(bench, *second);
    EXPECT_EQ(bench.refs->prefix_counts().blocks_reused, 2U);
}

TEST(PrefixTest, answers_are_the_same_whoever_computed_their_beginning) {
    const Bench bench = sharing_bench(), other = test_bench();
    const std::string text = "tell me of the sea and the stone: " + std::string(150, '.');
    std::vector<std::unique_ptr<Session>> sessions;
    for (const Bench* at : {&bench, &bench, &other}) {
        sessions.push_back(at == &bench ? open(bench) : other.open());
        Session& session = *sessions.back();
        for (int turn = 0; turn < 2; ++turn) {
            ASSERT_TRUE(session.append("user", text).ok());
            ASSERT_TRUE(session.begin_generate(kLively).ok());
            EXPECT_EQ(session.reuse() > 0, sessions.size() == 2 && turn == 0);
            run(*at, session);
        }
    }
    for (const auto& session : sessions) expect_equal(bench, *session, other, *sessions.back());
}

TEST(PrefixTest, the_last_token_is_always_computed) {
    const Bench bench = sharing_bench();
    for (const uint32_t length : {64U, 128U}) {
        const auto first = told(bench, prompt(length)), second = told(bench, prompt(length));
        compute(bench, *first);
        EXPECT_EQ(compute(bench, *second), 64U);
        EXPECT_FALSE(second->last_logits().empty());
        Alone(prompt(length)).expect_same(bench, *second);
        EXPECT_EQ(second->blocks().back(), first->blocks().back());  // computed twice, held once
    }
}

TEST(PrefixTest, those_who_computed_the_same_at_the_same_time_hold_it_once) {
    const Bench bench = sharing_bench();
    std::vector<std::unique_ptr<Session>> sessions;
    Batch batch(*bench.engine);
    for (int i = 0; i < 3; ++i) {
        sessions.push_back(told(bench, prompt(150)));
        EXPECT_EQ(sessions.back()->reuse(), 0U);
        ASSERT_TRUE(batch.add(*sessions.back(), 512).ok());
    }
    batch.run();
    EXPECT_EQ(in_use(bench), 2U + 3);
    for (const auto& session : sessions) Alone(prompt(150)).expect_same(bench, *session);
}

TEST(PrefixTest, a_conversation_that_goes_on_as_another_did_takes_that_over_too) {
    const Bench bench = sharing_bench();
    const auto first = told(bench, prompt(200)), second = told(bench, prompt(64));
    compute(bench, *first);
    compute(bench, *second);
    EXPECT_FALSE(second->last_logits().empty());
    ASSERT_TRUE(second->append_tokens(std::span(first->tokens()).subspan(64)).ok());
    EXPECT_EQ(second->reuse(), 128U);
    EXPECT_TRUE(second->last_logits().empty());  // nobody has computed those of token 191 here
    EXPECT_EQ(compute(bench, *second), 8U);
    EXPECT_EQ(logits_of(*second), logits_of(*first));
    EXPECT_TRUE(kv_bytes(bench, *second) == kv_bytes(bench, *first));
}

TEST(PrefixTest, another_domain_computes_its_own) {
    const Bench bench = sharing_bench();
    const auto ours = told(bench, prompt(200));
    compute(bench, *ours);
    const auto theirs = told(bench, prompt(200), kTheirs);
    EXPECT_EQ(theirs->reuse(), 0U);
    EXPECT_EQ(compute(bench, *theirs), 200U);
    for (size_t i = 0; i < 4; ++i) EXPECT_NE(ours->blocks()[i], theirs->blocks()[i]);
    const Session nobodys(*bench.model, *bench.engine, *bench.refs);
    const auto of_nobody = bench.open();
    ASSERT_TRUE(of_nobody->append_tokens(prompt(200)).ok());
    EXPECT_EQ(of_nobody->reuse(), 0U);
    Alone(prompt(200)).expect_same(bench, *theirs);
}

TEST(PrefixTest, keys_tell_domains_models_and_every_token_before_apart) {
    const Bench bench = test_bench(1), other = test_bench(2);
    const PrefixKey root = prefix_root(kOurs, bench.model->compute_identity());
    EXPECT_NE(root, prefix_root(kTheirs, bench.model->compute_identity()));
    EXPECT_NE(root, prefix_root(kOurs, other.model->compute_identity()));
    std::vector<uint32_t> tokens = prompt(128);
    const auto last = [&] {
        const std::span<const uint32_t> all = tokens;
        return prefix_key(prefix_key(root, all.first(64)), all.subspan(64));
    };
    const PrefixKey key = last();
    for (const size_t i : {0, 63, 64, 127}) {
        ++tokens[i];
        EXPECT_NE(last(), key) << i;
        --tokens[i];
    }
    EXPECT_EQ(last(), key);
}

TEST(PrefixTest, a_model_that_computes_something_else_finds_nothing) {
    const Bench bench = sharing_bench(), other = test_bench(2);
    compute(bench, *told(bench, prompt(200)));
    // The same blocks, the same tokens, the same domain.
    Session session(*other.model, *bench.engine, *bench.refs, kOurs);
    ASSERT_TRUE(session.append_tokens(prompt(200)).ok());
    EXPECT_EQ(session.reuse(), 0U);
    EXPECT_EQ(told(bench, prompt(200))->reuse(), 192U);
}

TEST(PrefixTest, a_prompt_that_fails_or_is_given_up_publishes_nothing_of_the_step) {
    const Bench bench = sharing_bench();
    {
        const auto session = told(bench, prompt(300));
        ASSERT_TRUE(step(bench, *session, 64));
        auto item = session->plan(128);
        ASSERT_TRUE(item.ok() && *item);
        bench.engine->step({&**item, 1});
        (*item)->error = error(ErrorCode::kNotFinite, "token 100");
        EXPECT_FALSE(session->commit(**item).ok());
        ASSERT_TRUE(session->plan(128).ok());
        session->drop_plan();
        ASSERT_TRUE(session->plan(128).ok());  // and it ends in the midst of this one
    }
    EXPECT_EQ(in_use(bench), 1U);
    const auto next = told(bench, prompt(300));
    EXPECT_EQ(next->reuse(), 64U);
    compute(bench, *next);
    Alone(prompt(300)).expect_same(bench, *next);
}

TEST(PrefixTest, rewinding_into_a_shared_block_changes_nobody_else) {
    const Bench bench = sharing_bench();
    const auto stays = told(bench, prompt(200)), goes = told(bench, prompt(200));
    compute(bench, *stays);
    compute(bench, *goes);
    ASSERT_TRUE(goes->rewind_tokens(100).ok());
    ASSERT_TRUE(goes->append_tokens(prompt(90, 5)).ok());
    EXPECT_EQ(compute(bench, *goes), 90U);
    Alone(prompt(200)).expect_same(bench, *stays);
    std::vector<uint32_t> other = prompt(100);
    const std::vector<uint32_t> rest = prompt(90, 5);
    other.insert(other.end(), rest.begin(), rest.end());
    const auto alone = bench_of(test_writer());
    const auto want = alone.open();
    ASSERT_TRUE(want->append_tokens(std::span(other).first(100)).ok());
    ASSERT_TRUE(want->append_tokens(rest).ok());
    run(alone, *want);
    EXPECT_TRUE(kv_bytes(bench, *goes) == kv_bytes(alone, *want));
    EXPECT_EQ(logits_of(*goes), logits_of(*want));
    // What it holds now can be found, as can what it left.
    EXPECT_EQ(told(bench, other)->reuse(), 128U);
    EXPECT_EQ(told(bench, prompt(200))->reuse(), 192U);
}

TEST(PrefixTest, a_block_that_its_only_holder_rewinds_into_is_found_no_more) {
    const Bench bench = sharing_bench();
    const auto session = told(bench, prompt(200));
    compute(bench, *session);
    ASSERT_TRUE(session->rewind_tokens(100).ok());
    EXPECT_EQ(told(bench, prompt(200))->reuse(), 64U);
    // For the logits of a full block's last token it is computed again.
    ASSERT_TRUE(session->append_tokens(prompt(28, 3)).ok());
    compute(bench, *session);
    ASSERT_TRUE(session->append_tokens(prompt(20, 4)).ok());
    compute(bench, *session);
    ASSERT_TRUE(session->rewind_tokens(128).ok());
    ASSERT_TRUE(session->want_logits().ok());
    EXPECT_EQ(compute(bench, *session), 1U);
    const Bench alone = test_bench();
    const auto want = alone.open();
    ASSERT_TRUE(want->append_tokens(session->tokens()).ok());
    run(alone, *want);
    EXPECT_EQ(logits_of(*session), logits_of(*want));
    EXPECT_TRUE(kv_bytes(bench, *session) == kv_bytes(alone, *want));
}

TEST(PrefixTest, forks_share_and_publish_as_their_parent_did) {
    const Bench bench = sharing_bench();
    const auto parent = told(bench, prompt(100));
    compute(bench, *parent);
    const auto child = *parent->fork();
    ASSERT_TRUE(child->append_tokens(prompt(100, 1)).ok());
    compute(bench, *child);
    ASSERT_TRUE(parent->append_tokens(prompt(100, 2)).ok());
    compute(bench, *parent);
    EXPECT_EQ(told(bench, child->tokens())->reuse(), 192U);
    EXPECT_EQ(told(bench, parent->tokens())->reuse(), 192U);
    EXPECT_EQ(in_use(bench), 1U + 3 + 3);
}

TEST(PrefixTest, beginnings_stay_for_a_while_within_their_budget_the_longest_unused_go_first) {
    const Bench bench = sharing_bench(5);
    compute(bench, *told(bench, prompt(200, 1)));
    EXPECT_EQ(in_use(bench), 3U);  // full ones
    compute(bench, *told(bench, prompt(200, 2)));
    EXPECT_EQ(in_use(bench), 5U);
    EXPECT_EQ(bench.refs->idle_prefixes(), 5U);
    EXPECT_EQ(bench.refs->prefix_counts().blocks_dropped, 1U);
    // The end of the older one went: its beginning is of use without it, not the other way round.
    EXPECT_EQ(told(bench, prompt(200, 1))->reuse(), 128U);
    EXPECT_EQ(told(bench, prompt(200, 2))->reuse(), 192U);
    const auto again = told(bench, prompt(200, 1));
    EXPECT_EQ(compute(bench, *again), 72U);
    Alone(prompt(200, 1)).expect_same(bench, *again);
}

TEST(PrefixTest, without_a_budget_only_what_somebody_holds_is_shared) {
    const Bench bench = sharing_bench(0);
    auto first = told(bench, prompt(200));
    compute(bench, *first);
    EXPECT_EQ(told(bench, prompt(200))->reuse(), 192U);
    first.reset();
    EXPECT_EQ(in_use(bench), 0U);
    EXPECT_EQ(told(bench, prompt(200))->reuse(), 0U);
}

TEST(PrefixTest, idle_beginnings_give_way_to_whoever_needs_blocks_and_leave_no_trace) {
    const Bench bench = sharing_bench(kIdle, 8);
    compute(bench, *told(bench, prompt(448, 1)));
    EXPECT_EQ(bench.refs->idle_prefixes(), 7U);
    EXPECT_EQ(bench.refs->available(), 8U);
    const auto session = told(bench, prompt(500, 2));
    EXPECT_EQ(compute(bench, *session), 500U);
    EXPECT_EQ(in_use(bench), 8U);
    EXPECT_EQ(bench.refs->idle_prefixes(), 0U);
    Alone(prompt(500, 2)).expect_same(bench, *session);  // the last block's other rows are zeros
}

TEST(PrefixTest, the_end_of_the_references_gives_back_what_was_kept) {
    Bench bench = sharing_bench();
    compute(bench, *told(bench, prompt(200)));
    EXPECT_EQ(in_use(bench), 3U);
    bench.refs.reset();
    EXPECT_EQ(in_use(bench), 0U);
}

TEST(PrefixTest, a_thaw_takes_over_what_is_there_and_maps_the_rest) {
    const Bench bench = sharing_bench();
    const file::TestDirectory directory;
    const auto session = told(bench, prompt(300));
    compute(bench, *session);
    const std::string path = directory.file("image");
    file::SectionWriter writer;
    ASSERT_TRUE(session->save(0, writer).ok());
    ASSERT_TRUE(writer.commit(path, {.replace = true, .durable = false}).ok());
    auto reader = file::SectionReader::open(path, file::SectionReader::Hashes::kRequired);
    const auto image = std::make_shared<const file::SectionReader>(*std::move(reader));
    // Here everything but the block that is not full; there the first two of five.
    const Bench there = sharing_bench();
    std::vector<uint32_t> tokens = prompt(130);
    tokens.resize(200, 9);
    const auto other = told(there, tokens);
    compute(there, *other);
    std::vector<uint32_t> all = prompt(300);
    const std::vector<uint32_t> more = prompt(100, 3);
    all.insert(all.end(), more.begin(), more.end());
    const Bench alone = test_bench();
    const auto want = alone.open();
    ASSERT_TRUE(want->append_tokens(all).ok());
    run(alone, *want);
    for (const Bench* at : {&bench, &there}) {
        const uint32_t before = in_use(*at);
        auto restored = Session::restore(0, *at->model, *at->engine, *at->refs, image, kOurs);
        ASSERT_TRUE(restored.ok()) << restored.error().message;
        Session& thawed = *restored->session;
        EXPECT_EQ(restored->tokens_reused, 300U);
        EXPECT_EQ(in_use(*at), before + (at == &bench ? 1 : 3));
        EXPECT_EQ(thawed.blocks()[1], (at == &bench ? session : other)->blocks()[1]);
        expect_equal(*at, thawed, bench, *session);
        ASSERT_TRUE(thawed.append_tokens(more).ok());
        EXPECT_EQ(compute(*at, thawed), 100U);
        EXPECT_EQ(logits_of(thawed), logits_of(*want));
        EXPECT_TRUE(kv_bytes(*at, thawed) == kv_bytes(alone, *want));
        // What it computed behind the image's KV is found by nobody; once that is gone, it is one like any other.
        EXPECT_EQ(told(*at, all)->reuse(), at == &bench ? 256U : 128U);
        ASSERT_TRUE(thawed.rewind_tokens(100).ok());
        ASSERT_TRUE(thawed.append_tokens(prompt(100, 4)).ok());
        compute(*at, thawed);
        EXPECT_EQ(told(*at, thawed.tokens())->reuse(), 192U);
    }
}

TEST(PrefixTest, an_image_is_the_same_and_what_was_thawed_from_it_neither_gives_nor_takes) {
    const Bench bench = sharing_bench();
    const file::TestDirectory directory;
    const auto image_of = [&](const Session& session, const char* name) {
        file::SectionWriter writer;
        EXPECT_TRUE(session.save(0, writer).ok());
        const std::string path = directory.file(name);
        EXPECT_TRUE(writer.commit(path, {.replace = true, .durable = false}).ok());
        auto reader = file::SectionReader::open(path, file::SectionReader::Hashes::kRequired);
        return std::make_shared<const file::SectionReader>(*std::move(reader));
    };
    const auto first = told(bench, prompt(200)), second = told(bench, prompt(200));
    compute(bench, *first);
    EXPECT_EQ(compute(bench, *second), 8U);
    const auto image = image_of(*second, "second");
    const auto plain = image_of(*first, "first");
    for (const auto& [name, tensor] : image->tensors()) {
        const auto a = image->bytes(tensor), b = plain->bytes(plain->tensors().at(name));
        EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << name;
    }
    // The image's word for its KV is not this node's.
    const Bench node = sharing_bench();
    auto restored = Session::restore(0, *node.model, *node.engine, *node.refs, image, kOurs);
    ASSERT_TRUE(restored.ok()) << restored.error().message;
    const auto thawed = std::move(restored->session);
    const std::vector<uint32_t> more = prompt(100, 3);
    ASSERT_TRUE(thawed->append_tokens(more).ok());
    EXPECT_EQ(compute(node, *thawed), 100U);
    const auto fresh = told(node, thawed->tokens());
    EXPECT_EQ(fresh->reuse(), 0U);
    EXPECT_EQ(compute(node, *fresh), 300U);
    EXPECT_TRUE(kv_bytes(node, *fresh) == kv_bytes(node, *thawed));
    for (size_t i = 0; i < fresh->blocks().size(); ++i) EXPECT_NE(fresh->blocks()[i], thawed->blocks()[i]);
    // Not either where its tokens end with a block.
    const auto even = told(bench, prompt(128, 7)), longer = told(node, prompt(300, 7));
    compute(bench, *even);
    const auto even_image = image_of(*even, "even");
    restored = Session::restore(0, *node.model, *node.engine, *node.refs, even_image, kOurs);
    ASSERT_TRUE(restored.ok()) << restored.error().message;
    compute(node, *longer);
    ASSERT_TRUE(restored->session->append_tokens(std::span(longer->tokens()).subspan(128)).ok());
    EXPECT_EQ(restored->session->reuse(), 0U);
    // Once nothing of it is left, it is one like any other.
    ASSERT_TRUE(thawed->rewind_tokens(0).ok());
    ASSERT_TRUE(thawed->append_tokens(prompt(200)).ok());
    EXPECT_EQ(thawed->reuse(), 192U);
}

}  // namespace
}  // namespace driftwood::session
