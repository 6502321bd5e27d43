// A device that fails under a conversation: its KV is lost, its tokens are not.
#include <utility>

#include "file/test_directory.h"
#include "session/session_test.h"

namespace driftwood::session {
namespace {

// An engine whose device fails when it is told to, and takes all blocks with it.
class FailingEngine final : public compute::Engine {
  public:
    explicit FailingEngine(std::unique_ptr<compute::Engine> engine) : engine_(std::move(engine)), pool_(*this) {}
    void fail() { failure_ = error(ErrorCode::kInternal, "an illegal address"); }

    std::string_view name() const override { return "failing"; }
    const compute::DecoderSpec& spec() const override { return engine_->spec(); }
    compute::KvPool& pool() override { return pool_; }
    std::optional<Error> failure() const override { return failure_; }
    void step(std::span<compute::BatchItem> batch) override {
        if (!failure_) return engine_->step(batch);
        for (compute::BatchItem& item : batch) item.error = failure_;
    }

  private:
    class Pool final : public compute::KvPool {
      public:
        explicit Pool(FailingEngine& owner) : owner_(owner), pool_(owner.engine_->pool()) {}
        const compute::KvLayout& layout() const override { return pool_.layout(); }
        Result<compute::BlockId> allocate() override { return pool_.allocate(); }
        void release(compute::BlockId block) override { pool_.release(block); }
        void copy(compute::BlockId from, compute::BlockId to, uint32_t rows) override { pool_.copy(from, to, rows); }
        void clear_rows(compute::BlockId block, uint32_t first_row) override { pool_.clear_rows(block, first_row); }
        Result<std::vector<compute::BlockId>> adopt(int fd, uint64_t offset, uint32_t count) override {
            return pool_.adopt(fd, offset, count);
        }
        std::span<const uint8_t> bytes(compute::BlockId block) const override { return pool_.bytes(block); }
        Result<void> validate(compute::BlockId block) const override { return pool_.validate(block); }
        Result<void> check_intact(compute::BlockId) const override {
            return owner_.failure_ ? Result<void>(*owner_.failure_) : Result<void>();
        }
        uint32_t blocks_in_use() const override { return pool_.blocks_in_use(); }
        uint32_t capacity() const override { return pool_.capacity(); }

      private:
        const FailingEngine& owner_;
        compute::KvPool& pool_;
    };

    std::unique_ptr<compute::Engine> engine_;
    Pool pool_;
    std::optional<Error> failure_;
};

void begin(Session& session) {
    ASSERT_TRUE(session.append("system", "the ant").ok());
    ASSERT_TRUE(session.append("user", "tell me of the sea and the stone, if you can: " + std::string(60, '.')).ok());
    ASSERT_TRUE(session.begin_generate(kLively).ok());
}

TEST(FailedDeviceTest, in_mid_sentence_a_conversation_goes_on_elsewhere_from_its_tokens) {
    const Bench sound = test_bench();
    const auto undisturbed = sound.open();
    begin(*undisturbed);
    Bench bench = test_bench();
    bench.refs.reset();
    auto failing = std::make_unique<FailingEngine>(std::move(bench.engine));
    FailingEngine& engine = *failing;
    bench.engine = std::move(failing);
    bench.refs = std::make_unique<BlockRefs>(bench.engine->pool());
    auto session = bench.open();
    begin(*session);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(step(bench, *session, 50));
    while (session->computed() == session->tokens().size()) ASSERT_TRUE(step(bench, *session, 50));
    ASSERT_EQ(session->finish(), Finish::kRunning);
    ASSERT_GT(session->computed(), compute::kBlockTokens);
    engine.fail();
    auto item = session->plan(50);
    ASSERT_TRUE(item.ok() && *item);
    engine.step({&**item, 1});
    EXPECT_EQ(session->commit(**item).error().message, "an illegal address");

    const file::TestDirectory directory;
    file::SectionWriter writer;
    ASSERT_TRUE(session->save(1, writer).ok());
    ASSERT_TRUE(writer.commit(directory.path() + "/image", {.replace = true, .durable = false}).ok());
    session.reset();
    EXPECT_EQ(engine.pool().blocks_in_use(), 0U);
    auto reader = file::SectionReader::open(directory.path() + "/image", file::SectionReader::Hashes::kRequired);
    ASSERT_TRUE(reader.ok());
    auto restored = Session::restore(1, *sound.model, *sound.engine, *sound.refs,
                                     std::make_shared<const file::SectionReader>(*std::move(reader)));
    ASSERT_TRUE(restored.ok()) << restored.error().message;
    EXPECT_EQ(restored->tokens_reused, 0U);
    run(sound, *restored->session, 50);
    run(sound, *undisturbed, 50);
    EXPECT_EQ(take_all(*restored->session), take_all(*undisturbed));
    expect_equal(sound, *restored->session, sound, *undisturbed);
}

}  // namespace
}  // namespace driftwood::session
