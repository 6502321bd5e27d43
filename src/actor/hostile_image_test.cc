// An image is hostile until it has been checked: damaged, incomplete and forged ones are typed errors, never a crash.
#include <gtest/gtest.h>

#include "actor/caller.h"
#include "actor/nosy_guest.h"
#include "actor/test_world.h"
#include "base/random.h"

namespace driftwood::actor {
namespace {

// An actor of the chat guest, frozen in the middle of its second answer.
class HostileImageTest : public testing::Test {
  protected:
    void SetUp() override {
        module_ = chat_module(world_);
        auto actor = Actor::create(world_.context(), *module_, chat_options()).value();
        Heard heard;
        run(*actor, heard);
        ASSERT_TRUE(actor
                        ->send("My name is Ada and this is a long enough message to fill more than one block of "
                               "keys and values, so that there is a full block and another one behind it.")
                        .ok());
        run(*actor, heard);
        ASSERT_TRUE(actor->send("Who am I?").ok());
        int samples = 0;
        while (samples < 3) samples += actor->step().kind == Step::Kind::kSample ? 1 : 0;
        ASSERT_TRUE(actor->freeze(path("good"), not_durable()).ok());
        good_ = file::read_all(path("good"));
        std::tie(expected_outcome_, expected_replies_) = outcome(path("good"));
        ASSERT_EQ(expected_outcome_, "lived");
    }

    std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

    // Thaws the file and lets the actor finish: "lived", or the name of the error's code.
    std::pair<std::string, std::string> outcome(const std::string& file) {
        auto thawed = thaw_file(world_, *module_, file);
        if (!thawed.ok()) return {std::string(error_code_name(thawed.error().code)), ""};
        Heard heard;
        run(*thawed->actor, heard);
        if (thawed->actor->state() == Actor::State::kFailed)
            return {std::string(error_code_name(thawed->actor->failure().code)), ""};
        return {"lived", heard.replies};
    }

    // The good image with its tensors changed by `edit` (by name; nullopt drops one), all hashes right.
    template <class Edit>
    void forge(const std::string& file, Edit edit) {
        const auto image = file::SectionReader::open(path("good"), file::SectionReader::Hashes::kRequired).value();
        file::SectionWriter writer;
        for (const auto& [name, tensor] : image.tensors()) {
            const auto bytes = image.bytes(tensor);
            std::vector<uint8_t> copy(bytes.begin(), bytes.end());
            if (!edit(name, copy)) continue;
            auto shape = tensor.shape;
            if (copy.size() != bytes.size()) shape = {copy.size() / file::dtype_size(tensor.dtype)};
            writer.add_owned(name, tensor.dtype, shape, std::move(copy));
        }
        for (const auto& [key, value] : image.metadata()) {
            if (key != "root_hash") writer.set_metadata(key, value);
        }
        ASSERT_TRUE(writer.commit(file, not_durable()).ok());
    }

    World world_;
    std::unique_ptr<wasm::Module> module_;
    file::TestDirectory directory_;
    std::vector<uint8_t> good_;
    std::string expected_outcome_, expected_replies_;
};

TEST_F(HostileImageTest, a_forgery_without_changes_lives) {
    forge(path("same"), [](const std::string&, std::vector<uint8_t>&) { return true; });
    EXPECT_EQ(outcome(path("same")), std::pair(expected_outcome_, expected_replies_));
}

TEST_F(HostileImageTest, every_tensor_left_out_is_missed_by_name) {
    const auto image = file::SectionReader::open(path("good"), file::SectionReader::Hashes::kRequired).value();
    EXPECT_GE(image.tensors().size(), 8U);
    for (const auto& entry : image.tensors()) {
        const std::string& dropped = entry.first;
        forge(path("forged"), [&](const std::string& name, std::vector<uint8_t>&) { return name != dropped; });
        const auto thawed = thaw_file(world_, *module_, path("forged"));
        if (dropped == "actor.module") continue;  // read by whoever compiles it, not by the actor
        ASSERT_FALSE(thawed.ok()) << dropped;
        EXPECT_NE(thawed.error().message.find(dropped), std::string::npos) << thawed.error().message;
    }
}

TEST_F(HostileImageTest, a_truncated_image_is_refused) {
    for (size_t keep = 0; keep < good_.size(); keep += good_.size() / 40 + 1) {
        file::write_all(path("short"), std::span(good_).first(keep));
        const std::string got = outcome(path("short")).first;
        EXPECT_EQ(got, "corrupt") << keep;
    }
}

// A flipped bit is an error, or lies in padding that nobody reads and changes nothing.
TEST_F(HostileImageTest, a_flipped_bit_never_changes_what_the_actor_says) {
    int refused = 0;
    constexpr int kFlips = 150;
    for (int i = 0; i < kFlips; ++i) {
        const auto random = philox(9, static_cast<uint64_t>(i));
        // Half of them in the first 64 KiB, where the header is.
        const size_t at = random[0] % (i % 2 == 0 ? good_.size() : size_t{4096});
        auto bad = good_;
        bad[at] ^= static_cast<uint8_t>(1U << (random[1] % 8));
        file::write_all(path("flipped"), bad);
        const auto got = outcome(path("flipped"));
        if (got.first == "lived") {
            EXPECT_EQ(got.second, expected_replies_) << at;
        } else {
            // The header is read before its hash can be: a name of a type may have become that of another format's.
            EXPECT_TRUE(got.first == "corrupt" || got.first == "unsupported") << at << ": " << got.first;
            ++refused;
        }
    }
    EXPECT_GT(refused, kFlips / 2);
}

TEST_F(HostileImageTest, a_bad_block_of_kv_fails_the_actor_before_it_is_used) {
    const auto image = file::SectionReader::open(path("good"), file::SectionReader::Hashes::kRequired).value();
    const auto* kv = image.find("session.1.kv");
    ASSERT_NE(kv, nullptr);
    auto bad = good_;
    bad[kv->file_offset + 5] ^= 1;
    file::write_all(path("bad_kv"), bad);
    auto thawed = thaw_file(world_, *module_, path("bad_kv"));
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;  // KV is checked before its first use, not at once
    Heard heard;
    run(*thawed->actor, heard);
    ASSERT_EQ(thawed->actor->state(), Actor::State::kFailed);
    EXPECT_EQ(thawed->actor->failure().code, ErrorCode::kCorrupt);
    EXPECT_FALSE(thawed->actor->freeze(path("never"), not_durable()).ok());
}

// Right hashes, wrong contents: whoever forged the file knew the format.
TEST_F(HostileImageTest, forged_states_are_refused_or_harmless) {
    const auto image = file::SectionReader::open(path("good"), file::SectionReader::Hashes::kRequired).value();
    int refused = 0;
    for (const auto& entry : image.tensors()) {
        const std::string& target = entry.first;
        const file::TensorInfo& tensor = entry.second;
        if (tensor.size_bytes == 0 || target == "actor.module") continue;
        for (uint64_t i = 0; i < 40; ++i) {
            const auto random = philox(11, i, tensor.file_offset);
            forge(path("forged"), [&](const std::string& name, std::vector<uint8_t>& bytes) {
                if (name != target) return true;
                if (i % 8 == 7) bytes.resize(bytes.size() / 2 / 8 * 8);
                const size_t within = std::min<size_t>(bytes.size(), i % 2 == 0 ? 256 : bytes.size());
                if (within > 0) bytes[random[0] % within] = static_cast<uint8_t>(random[1]);
                return true;
            });
            refused += outcome(path("forged")).first == "lived" ? 0 : 1;
        }
    }
    EXPECT_GT(refused, 20);
}

// Everything that may be pending, with one byte of the actor's state changed.
TEST_F(HostileImageTest, forged_operations_are_refused_or_harmless) {
    Caller caller(world_);
    constexpr int64_t kFree = wasm::kCallerFree;
    caller.write<uint32_t>(kFree, {kFree + 512, kFree + 576, kFree + 640, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0});
    caller.write<uint32_t>(kFree + 64, {4, kFree + 512, 0, kFree + 512, 4, 4, 4, 0, 4, 0});
    const auto issued = caller.call({{"session_open", {}},
                                     {"decode", {1, kFree + 1024, 150, kFree + 4096, 512}},
                                     {"gemm", {kFree, 56}},
                                     {"rows", {kFree + 64, 40}},
                                     {"sleep", {1'000'000'000}}},
                                    false);
    for (const int64_t op : issued) ASSERT_GT(op, 0);
    ASSERT_TRUE(caller.actor->freeze(path("good"), not_durable()).ok());
    module_ = wasm::Module::compile(*world_.runtime, wasm::from_wat(wasm::caller_guest_wat())).value();
    ASSERT_EQ(outcome(path("good")).first, "lived");
    std::map<std::string, int> outcomes;
    for (uint64_t i = 0; i < 400; ++i) {
        const auto random = philox(13, i);
        forge(path("forged"), [&](const std::string& name, std::vector<uint8_t>& bytes) {
            // Identity, random state and WASI's strings are as good as any others: the operations lie between.
            if (name == "actor.state")
                bytes[96 + random[0] % (std::min<size_t>(bytes.size(), 480) - 96)] = static_cast<uint8_t>(random[1]);
            return true;
        });
        ++outcomes[outcome(path("forged")).first];
    }
    EXPECT_GT(outcomes["corrupt"], 50);
    for (const char* bug : {"internal", "io", "trap"}) EXPECT_EQ(outcomes[bug], 0) << bug;
}

TEST_F(HostileImageTest, a_state_of_another_version_is_refused_by_name) {
    for (const uint8_t version : {1, 3}) {
        forge(path("forged"), [&](const std::string& name, std::vector<uint8_t>& bytes) {
            if (name == "actor.state") bytes[4] = version;  // behind the record's tag
            return true;
        });
        const auto thawed = thaw_file(world_, *module_, path("forged"));
        ASSERT_FALSE(thawed.ok());
        EXPECT_EQ(thawed.error().code, ErrorCode::kUnsupported);
        EXPECT_NE(thawed.error().message.find("ACTR"), std::string::npos) << thawed.error().message;
    }
}

}  // namespace
}  // namespace driftwood::actor
