// An engine's memory for logits: what sessions hold of it, and when they give it back.
#include <set>
#include <utility>

#include "session/session_test.h"

namespace driftwood::session {
namespace {

// Hands out memory of its own and knows what is out.
class LendingEngine final : public compute::Engine, private compute::LogitsOwner {
  public:
    explicit LendingEngine(std::unique_ptr<compute::Engine> engine) : engine_(std::move(engine)) {}
    ~LendingEngine() override { EXPECT_TRUE(lent_.empty()); }
    size_t lent() const { return lent_.size(); }
    void fail_next() { fails_ = true; }

    std::string_view name() const override { return "lending"; }
    const compute::DecoderSpec& spec() const override { return engine_->spec(); }
    compute::KvPool& pool() override { return engine_->pool(); }
    void step(std::span<compute::BatchItem> batch) override {
        engine_->step(batch);
        for (compute::BatchItem& item : batch) {
            if (fails_) item.error = error(ErrorCode::kNotFinite, "a step that fails");
        }
        fails_ = false;
    }
    compute::Logits logits_memory() override {
        auto* values = new float[spec().vocab];
        lent_.insert(values);
        return {std::span(values, spec().vocab), *this};
    }

  private:
    void take_back(std::span<float> values) override {
        EXPECT_EQ(lent_.erase(values.data()), 1U);
        delete[] values.data();
    }

    std::unique_ptr<compute::Engine> engine_;
    std::set<const float*> lent_;
    bool fails_ = false;
};

TEST(LogitsMemory, a_session_keeps_one_tokens_of_its_engine_and_gives_it_back) {
    Bench bench = test_bench();
    const Bench plain = test_bench();
    auto lending = std::make_unique<LendingEngine>(std::move(bench.engine));
    LendingEngine& engine = *lending;
    bench.engine = std::move(lending);
    auto session = bench.open();
    auto other = plain.open();
    for (Session* each : {session.get(), other.get()}) {
        ASSERT_TRUE(each->append("user", "the ant and the stone").ok());
        ASSERT_TRUE(each->begin_generate({.sampler = {}, .max_tokens = 5}).ok());
    }
    EXPECT_EQ(engine.lent(), 0U);
    while (step(bench, *session)) EXPECT_EQ(engine.lent(), 1U);
    run(plain, *other);
    EXPECT_EQ(session->tokens(), other->tokens());
    EXPECT_EQ(logits_of(*session), logits_of(*other));

    const auto child = session->fork();
    ASSERT_TRUE(child.ok());
    EXPECT_EQ(logits_of(**child), logits_of(*session));
    EXPECT_EQ(engine.lent(), 1U);  // a copy needs none of the engine's

    ASSERT_TRUE(session->append("user", "and the sea?").ok());
    ASSERT_TRUE(session->plan(512).ok());
    EXPECT_EQ(engine.lent(), 2U);
    session->drop_plan();
    EXPECT_EQ(engine.lent(), 1U);
    auto item = session->plan(512);
    ASSERT_TRUE(item.ok() && *item);
    engine.fail_next();
    engine.step({&**item, 1});
    EXPECT_FALSE(session->commit(**item).ok());
    EXPECT_EQ(engine.lent(), 1U);
    ASSERT_TRUE(session->rewind(0).ok());
    EXPECT_EQ(engine.lent(), 0U);
    run(bench, *session);
    session.reset();
    EXPECT_EQ(engine.lent(), 0U);
}

}  // namespace
}  // namespace driftwood::session
