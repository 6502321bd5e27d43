// An actor whose image is truncated while it lives on it fails with a typed error; the process and its neighbours live.
#include <gtest/gtest.h>
#include <unistd.h>

#include "actor/test_world.h"

namespace driftwood::actor {
namespace {

// Long enough for several blocks of KV.
std::string long_message() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "word" + std::to_string(i) + " ";
    return text;
}

class LostFileTest : public ::testing::Test {
  protected:
    // An actor that has answered once is frozen; `lost_` and `kept_` go on from copies of its image.
    void SetUp() override {
        auto first = Actor::create(world_.context(), *module_, chat_options()).value();
        Heard heard;
        run(*first, heard);
        first->send(long_message()).value();
        run(*first, heard);
        ASSERT_EQ(heard.answers, 1) << heard.logs;
        first->freeze(lost_path_, not_durable()).value();
        first->freeze(kept_path_, not_durable()).value();
        lost_ = thaw_file(world_, *module_, lost_path_).value().actor;
        kept_ = thaw_file(world_, *module_, kept_path_).value().actor;
    }

    uint64_t kv_offset() const {
        const auto image = file::SectionReader::open(lost_path_, file::SectionReader::Hashes::kRequired).value();
        for (const auto& [name, tensor] : image.tensors()) {
            if (name.ends_with(".kv")) return tensor.file_offset;
        }
        ADD_FAILURE() << "no KV in the image";
        return 0;
    }

    void lose(uint64_t bytes_left) { ASSERT_EQ(truncate(lost_path_.c_str(), static_cast<off_t>(bytes_left)), 0); }

    static std::string answer(Actor& actor, const std::string& message) {
        Heard heard;
        EXPECT_TRUE(actor.send(message).ok());
        run(actor, heard);
        return heard.replies;
    }

    void expect_lost_and_kept() {
        ASSERT_EQ(lost_->state(), Actor::State::kFailed);
        EXPECT_EQ(lost_->failure().code, ErrorCode::kIo) << lost_->failure().message;
        EXPECT_NE(lost_->failure().message.find("became shorter"), std::string::npos) << lost_->failure().message;
        EXPECT_EQ(lost_->step().kind, Step::Kind::kNothing);
        EXPECT_TRUE(answer(*kept_, "And you?").ends_with("|"));
        EXPECT_EQ(kept_->state(), Actor::State::kWaiting);
    }

    const file::TestDirectory directory_;
    const std::string lost_path_ = directory_.file("lost");
    const std::string kept_path_ = directory_.file("kept");
    World world_;
    std::unique_ptr<wasm::Module> module_ = chat_module(world_);
    std::unique_ptr<Actor> lost_, kept_;
};

TEST_F(LostFileTest, an_actor_without_its_memory_fails_and_says_nothing) {
    lose(0);
    EXPECT_EQ(answer(*lost_, "Are you there?"), "");
    expect_lost_and_kept();
}

TEST_F(LostFileTest, an_actor_without_kv_that_it_has_not_looked_at_yet_fails) {
    lose(kv_offset());
    EXPECT_EQ(answer(*lost_, "Are you there?"), "");
    expect_lost_and_kept();
}

TEST_F(LostFileTest, an_actor_without_kv_that_it_has_verified_fails) {
    EXPECT_TRUE(answer(*lost_, "Are you there?").ends_with("|"));
    lose(kv_offset());
    EXPECT_EQ(answer(*lost_, "And now?"), "");
    expect_lost_and_kept();
}

TEST_F(LostFileTest, zeros_in_the_place_of_lost_memory_are_never_frozen) {
    lose(0);
    const auto frozen = lost_->freeze(directory_.file("again"), not_durable());
    ASSERT_FALSE(frozen.ok());
    EXPECT_FALSE(std::filesystem::exists(directory_.file("again")));
    EXPECT_EQ(directory_.entries(), 2u);
    EXPECT_TRUE(kept_->freeze(directory_.file("again"), not_durable()).ok());
}

}  // namespace
}  // namespace driftwood::actor
