#include "session/batch.h"

#include "session/session_test.h"

namespace driftwood::session {
namespace {

std::string long_text(size_t words) {
    std::string out;
    for (size_t i = 0; i < words; ++i) out += "the tea is on the table " + std::to_string(i) + ", ";
    return out;
}

GenerateParams lively(uint64_t seed) { return {.sampler = {.temperature = 1.0F, .seed = seed}, .max_tokens = 12}; }

TEST(BatchTest, sessions_together_get_what_each_gets_alone) {
    const Bench bench = test_bench();
    std::vector<std::unique_ptr<Session>> sessions;
    for (uint64_t i = 0; i < 3; ++i) {
        sessions.push_back(bench.open());
        ASSERT_TRUE(sessions.back()->append("user", long_text(3 * i + 1)).ok());
        ASSERT_TRUE(sessions.back()->begin_generate(lively(i)).ok());
    }
    Batch batch(*bench.engine);
    uint32_t chunk = 50;
    for (bool work = true; work;) {
        uint32_t planned = 0;
        for (const auto& session : sessions) planned += batch.add(*session, chunk).value();
        EXPECT_EQ(batch.tokens(), planned);
        batch.run();
        for (size_t i = 0; i < batch.size(); ++i) {
            ASSERT_FALSE(batch.outcome(i).error);
            planned -= batch.outcome(i).tokens;
        }
        EXPECT_EQ(planned, 0U);
        work = batch.size() > 0;
        batch.clear();
        for (const auto& session : sessions) {
            if (!session->can_sample()) continue;
            ASSERT_TRUE(session->sample().ok());
            work = true;
        }
        chunk = chunk * 7 % 60 + 1;
    }
    for (uint64_t i = 0; i < 3; ++i) {
        const Bench fresh = test_bench();
        const auto alone = fresh.open();
        ASSERT_TRUE(alone->append("user", long_text(3 * i + 1)).ok());
        ASSERT_TRUE(alone->begin_generate(lively(i)).ok());
        run(fresh, *alone);
        expect_equal(bench, *sessions[i], fresh, *alone);
    }
}

TEST(BatchTest, an_error_stays_with_its_session) {
    const Bench bench = bench_of(test_writer(), 2);
    const auto small = bench.open(), large = bench.open();
    ASSERT_TRUE(small->append("user", "hi").ok());
    ASSERT_TRUE(large->append("user", std::string(200, '#')).ok());
    Batch batch(*bench.engine);
    EXPECT_EQ(batch.add(*large, 512).error().code, ErrorCode::kLimit);
    EXPECT_EQ(batch.add(*small, 512).value(), small->tokens().size());
    batch.run();
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_FALSE(batch.outcome(0).error);
    EXPECT_EQ(batch.outcome(0).tokens, small->tokens().size());
    EXPECT_EQ(large->computed(), 0U);
}

TEST(BatchTest, what_is_dropped_is_as_it_was) {
    const Bench bench = test_bench();
    const auto first = bench.open(), second = bench.open();
    ASSERT_TRUE(first->append("user", "hi").ok());
    ASSERT_TRUE(second->append("user", std::string(200, '#')).ok());
    Batch batch(*bench.engine);
    ASSERT_TRUE(batch.add(*first, 512).ok());
    ASSERT_TRUE(batch.add(*second, 512).ok());
    batch.drop(1);
    EXPECT_EQ(batch.tokens(), first->tokens().size());
    EXPECT_TRUE(second->blocks().empty());
    EXPECT_TRUE(second->append("user", "and more").ok());  // no step is under way
    batch.run();
    EXPECT_EQ(first->computed(), first->tokens().size());
    EXPECT_EQ(second->computed(), 0U);
    batch.clear();
    ASSERT_TRUE(batch.add(*second, 512).ok());
    batch.clear();
    EXPECT_EQ(bench.engine->pool().blocks_in_use(), 1U);
}

}  // namespace
}  // namespace driftwood::session
