// Freeze and thaw of sessions: everything is in the image, nothing in an image is trusted.
#include <cstring>
#include <fstream>
#include <functional>

#include "file/encoding.h"
#include "file/test_directory.h"
#include "session/frozen.h"
#include "session/session_test.h"

namespace driftwood::session {
namespace {

using file::DType;
using file::SectionReader;
using file::SectionWriter;

constexpr SectionWriter::CommitOptions kQuick{.replace = true, .durable = false};
using Bytes = std::vector<uint8_t>;
using Image = std::shared_ptr<const SectionReader>;

class SessionImageTest : public testing::Test {
  protected:
    std::string path(const char* name = "image") const { return directory_.path() + "/" + name; }

    Image open(const std::string& at) const {
        auto reader = SectionReader::open(at, SectionReader::Hashes::kRequired);
        if (!reader.ok()) check_failed("the test's image", reader.error().message);
        return std::make_shared<const SectionReader>(*std::move(reader));
    }

    Image save(const Session& session, uint32_t id = 0) {
        SectionWriter writer;
        const auto saved = session.save(id, writer);
        if (!saved.ok()) check_failed("saving", saved.error().message);
        const std::string at = path(("image" + std::to_string(files_++)).c_str());
        if (!writer.commit(at, kQuick).ok()) check_failed("committing");
        return open(at);
    }

    static Result<Session::Restored> restore(const Bench& bench, const Image& image, uint32_t id = 0) {
        return Session::restore(id, *bench.model, *bench.engine, *bench.refs, image);
    }

    file::TestDirectory directory_;
    int files_ = 0;
};

// A conversation in which something of everything happens: two answers, the second in the middle.
void begin_story(Session& session) {
    ASSERT_TRUE(session.append("system", "the ant").ok());
    ASSERT_TRUE(
        session.append("user", "tell me of the sea and the stone, at some length, if you can: " + std::string(60, '.'))
            .ok());
    ASSERT_TRUE(session.begin_generate(kLively).ok());
}

// The rest of it, the same for a session that was frozen and one that was not.
std::string end_story(const Bench& bench, Session& session) {
    std::string said = take_all(session);
    while (step(bench, session, 50)) said += take_all(session);
    EXPECT_TRUE(session.append("user", "and then").ok());
    EXPECT_TRUE(session.begin_generate({.sampler = {.temperature = 2.0F, .seed = 9}, .max_tokens = 10}).ok());
    while (step(bench, session, 50)) said += take_all(session);
    return said;
}

TEST_F(SessionImageTest, frozen_at_any_step_it_goes_on_with_the_same_bits) {
    const Bench bench = test_bench();
    const auto whole = bench.open();
    begin_story(*whole);
    const auto session = bench.open();
    begin_story(*session);
    const std::string want = end_story(bench, *whole);
    int steps = 0, with_held = 0, with_output = 0;
    std::string taken;
    for (bool more = true; more; more = step(bench, *session, 50), ++steps) {
        const Bench other = test_bench();
        const Image image = save(*session, 3);
        const Frozen frozen = *read_frozen(3, *image);
        with_held += frozen.generate && !frozen.generate->characters.held().empty();
        auto thawed = restore(other, image, 3);
        ASSERT_TRUE(thawed.ok()) << thawed.error().message;
        EXPECT_EQ(thawed->tokens_reused, session->computed());
        EXPECT_EQ(thawed->tokens_again, 0u);
        expect_equal(bench, *session, other, *thawed->session);
        EXPECT_EQ(taken + end_story(other, *thawed->session), want) << steps;
        expect_equal(bench, *whole, other, *thawed->session);
        with_output += session->output_bytes() > 0;
        if (steps % 3 == 0) taken += take_all(*session);
        if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    EXPECT_GT(steps, 40);
    EXPECT_GT(with_output, 5);
    EXPECT_GT(with_held, 0);
}

TEST_F(SessionImageTest, an_empty_session_is_frozen_too) {
    const Bench bench = test_bench();
    const auto session = bench.open();
    auto thawed = restore(bench, save(*session));
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    EXPECT_TRUE(thawed->session->tokens().empty());
    ASSERT_TRUE(session->append("user", "hi").ok());
    auto pending = restore(bench, save(*session));
    ASSERT_TRUE(pending.ok()) << pending.error().message;
    expect_equal(bench, *session, bench, *pending->session);
}

TEST_F(SessionImageTest, the_same_session_gives_the_same_bytes) {
    const Bench bench = test_bench();
    const auto session = bench.open();
    begin_story(*session);
    for (int i = 0; i < 12; ++i) step(bench, *session, 50);
    const Image image = save(*session);
    const Bench other = test_bench();
    const auto thawed = *restore(other, image);
    const Image again = save(*thawed.session);
    for (const auto& [name, tensor] : image->tensors()) {
        const auto a = image->bytes(tensor), b = again->bytes(*again->find(name));
        EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << name;
    }
}

TEST_F(SessionImageTest, forks_of_a_thawed_session_verify_for_themselves) {
    const Bench bench = test_bench();
    const auto session = bench.open();
    begin_story(*session);
    run(bench, *session, 50);
    const Bench other = test_bench();
    const auto thawed = *restore(other, save(*session));
    const auto child = *thawed.session->fork();
    const auto shortened = *thawed.session->fork();
    take_all(*session);  // undelivered output stays with a fork's parent
    EXPECT_EQ(end_story(other, *child), end_story(bench, *session));
    ASSERT_TRUE(shortened->rewind(1).ok());
    const auto alone = bench.open();
    ASSERT_TRUE(alone->append("system", "the ant").ok());
    run(bench, *alone);
    EXPECT_TRUE(kv_bytes(other, *shortened) == kv_bytes(bench, *alone));
}

// ---- Another model.

TEST_F(SessionImageTest, another_model_is_told_the_conversation_anew) {
    const Bench bench = test_bench(1);
    const auto session = bench.open();
    begin_story(*session);
    for (int i = 0; i < 20; ++i) step(bench, *session, 50);
    ASSERT_EQ(session->finish(), Finish::kRunning);
    const Image image = save(*session);

    const Bench other = test_bench(2);
    auto thawed = restore(other, image);
    ASSERT_TRUE(thawed.ok()) << thawed.error().message;
    EXPECT_EQ(thawed->tokens_reused, 0u);
    EXPECT_EQ(thawed->tokens_again, thawed->session->tokens().size());
    EXPECT_EQ(thawed->session->computed(), 0u);
    const Part answer = thawed->session->parts().back();
    EXPECT_EQ(answer.text, session->parts().back().text);
    EXPECT_TRUE(answer.open);
    EXPECT_EQ(take_all(*thawed->session), take_all(*session));
    run(other, *thawed->session);
    EXPECT_NE(thawed->session->finish(), Finish::kRunning);
    EXPECT_GT(thawed->session->parts().back().text.size(), answer.text.size());
    EXPECT_TRUE(thawed->session->append("user", "so").ok());

    // The messages before the answer have the KV that this model gives them.
    const auto alone = other.open();
    begin_story(*alone);
    alone->end_generate();
    ASSERT_TRUE(alone->rewind(2).ok());
    run(other, *alone);
    ASSERT_TRUE(thawed->session->rewind(2).ok());
    EXPECT_TRUE(kv_bytes(other, *thawed->session) == kv_bytes(other, *alone));
}

TEST_F(SessionImageTest, another_tokenizer_or_template_is_another_model) {
    const Bench bench = test_bench();
    const auto session = bench.open();
    ASSERT_TRUE(session->append("user", "hi").ok());
    run(bench, *session);
    const Bench other = bench_of(with_template("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"));
    const auto thawed = *restore(other, save(*session));
    EXPECT_EQ(thawed.tokens_reused, 0u);
    std::string text;
    for (const uint32_t id : thawed.session->tokens()) text += other.model->tokenizer().bytes(id);
    EXPECT_EQ(text, "[user]hi");
}

TEST_F(SessionImageTest, raw_tokens_refuse_another_model_by_name) {
    const Bench bench = test_bench(1);
    const auto session = bench.open();
    ASSERT_TRUE(session->append("user", "hi").ok());
    ASSERT_TRUE(session->append_tokens({{9u, 10u}}).ok());
    const Image image = save(*session);
    EXPECT_TRUE(restore(test_bench(1), image).ok());
    const Bench other = test_bench(2);
    const auto refused = restore(other, image);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kMismatch);
    EXPECT_NE(refused.error().message.find("raw tokens"), std::string::npos);
}

TEST_F(SessionImageTest, a_conversation_too_long_for_the_other_model_is_refused) {
    const Bench bench = test_bench();
    const auto session = bench.open();
    ASSERT_TRUE(session->append("user", std::string(100, '#')).ok());
    model::SynthShape small = test_shape();
    small.context = 64;
    const Image image = save(*session);
    EXPECT_EQ(restore(bench_of(test_writer(2, small)), image).error().code, ErrorCode::kLimit);
    EXPECT_EQ(restore(bench_of(test_writer(1, small)), image).error().code, ErrorCode::kCorrupt);
}

// ---- Hostile images.

struct Tensors {
    struct Tensor {
        DType dtype;
        std::vector<uint64_t> shape;
        Bytes bytes;
    };
    std::map<std::string, Tensor> by_name;

    template <class T>
    void poke(const std::string& name, size_t index, T value) {
        std::memcpy(by_name.at(name).bytes.data() + index * sizeof value, &value, sizeof value);
    }
};

class HostileSessionTest : public SessionImageTest {
  protected:
    HostileSessionTest() : bench_(test_bench()), session_(bench_.open()) {
        begin_story(*session_);
        while (session_->parts().back().text.size() < 20) step(bench_, *session_, 50);
        step(bench_, *session_);
        image_ = save(*session_);
    }

    Tensors tensors() const {
        Tensors out;
        for (const auto& [name, tensor] : image_->tensors()) {
            const auto bytes = image_->bytes(tensor);
            out.by_name[name] = {tensor.dtype, tensor.shape, Bytes(bytes.begin(), bytes.end())};
        }
        return out;
    }

    // An image of these tensors with hashes that are right.
    Image forge(const Tensors& tensors) {
        SectionWriter writer;
        for (const auto& [name, tensor] : tensors.by_name) {
            writer.add(name, tensor.dtype, tensor.shape, {tensor.bytes});
        }
        const std::string at = path("forged");
        std::filesystem::remove(at);  // file systems flush what is renamed over an older file
        if (!writer.commit(at, kQuick).ok()) check_failed("committing");
        return open(at);
    }

    // The error of thawing and then using what was thawed, if there is one.
    std::optional<Error> try_out(const Image& image) {
        const Bench bench = test_bench();
        auto thawed = restore(bench, image);
        if (!thawed.ok()) return thawed.error();
        for (int i = 0; i < 6; ++i) {
            auto item = thawed->session->plan(32);
            if (!item.ok()) return item.error();
            if (*item) {
                bench.engine->step({&**item, 1});
                if (auto done = thawed->session->commit(**item); !done.ok()) return done.error();
            } else if (thawed->session->can_sample()) {
                if (auto done = thawed->session->sample(); !done.ok()) return done.error();
            }
        }
        return std::nullopt;
    }

    Bench bench_;
    std::unique_ptr<Session> session_;
    Image image_;
};

TEST_F(HostileSessionTest, the_forge_itself_is_sound) { EXPECT_FALSE(try_out(forge(tensors()))); }

TEST_F(HostileSessionTest, every_tensor_must_be_there) {
    for (const char* part : {"kv", "tokens", "logits", "transcript", "state"}) {
        Tensors changed = tensors();
        changed.by_name.erase(tensor_name(0, part));
        const auto failure = try_out(forge(changed));
        ASSERT_TRUE(failure) << part;
        EXPECT_EQ(failure->code, ErrorCode::kNotFound);
        EXPECT_NE(failure->message.find(tensor_name(0, part)), std::string::npos);
    }
    EXPECT_EQ(restore(bench_, image_, 1).error().code, ErrorCode::kNotFound);
}

TEST_F(HostileSessionTest, contradictions_are_named) {
    const std::string kv = tensor_name(0, "kv"), tokens = tensor_name(0, "tokens"), logits = tensor_name(0, "logits");
    const uint64_t block_bytes = bench_.engine->pool().layout().block_bytes();
    const auto resize = [](Tensors& t, const std::string& name, int64_t by, uint64_t unit) {
        auto& tensor = t.by_name.at(name);
        tensor.shape[0] = static_cast<uint64_t>(static_cast<int64_t>(tensor.shape[0]) + by);
        tensor.bytes.resize(tensor.shape[0] * unit);
    };
    const std::pair<const char*, std::function<void(Tensors&)>> cases[] = {
        {"a token beyond the vocabulary", [&](Tensors& t) { t.poke(tokens, 3, uint32_t{320}); }},
        {"a token too many", [&](Tensors& t) { resize(t, tokens, 1, 4); }},
        {"a token too few", [&](Tensors& t) { resize(t, tokens, -1, 4); }},
        {"a block too many", [&](Tensors& t) { resize(t, kv, 1, block_bytes); }},
        {"a block too few", [&](Tensors& t) { resize(t, kv, -1, block_bytes); }},
        {"a logit too many", [&](Tensors& t) { resize(t, logits, 1, 4); }},
        {"no logits", [&](Tensors& t) { resize(t, logits, -320, 4); }},
        {"KV of another shape", [&](Tensors& t) { t.by_name.at(kv).shape = {t.by_name.at(kv).bytes.size()}; }},
    };
    ASSERT_EQ(session_->computed(), session_->tokens().size());
    ASSERT_NE(session_->computed() % 64, 0u);
    for (const auto& [name, change] : cases) {
        Tensors changed = tensors();
        change(changed);
        const auto failure = try_out(forge(changed));
        ASSERT_TRUE(failure) << name;
        EXPECT_TRUE(failure->code == ErrorCode::kCorrupt || failure->code == ErrorCode::kMismatch) << failure->message;
    }
}

TEST_F(HostileSessionTest, kv_that_is_no_kv_is_refused_before_its_first_use) {
    const std::string kv = tensor_name(0, "kv");
    const compute::KvLayout layout = bench_.engine->pool().layout();
    const size_t last = (session_->blocks().size() - 1) * layout.block_bytes();
    const uint32_t beyond = session_->computed() % 64;
    const size_t scales = 2 * layout.k_bytes();
    const std::pair<size_t, uint32_t> changes[] = {
        {scales, 0x7FC00000},                                                        // a scale that is no number
        {scales, 0xBF800000},                                                        // negative
        {scales + 64 * 4, 1},                                                        // subnormal
        {last + scales + size_t{beyond} * 4, 0x3F800000},                            // of a row beyond the last
        {last + size_t{beyond % 32} * 4 + (beyond / 32) * layout.k_bytes() / 2, 7},  // a number of such a row
    };
    for (const auto& [at, value] : changes) {
        Tensors changed = tensors();
        std::memcpy(changed.by_name.at(kv).bytes.data() + at, &value, sizeof value);
        const Bench bench = test_bench();
        const auto thawed = *restore(bench, forge(changed));
        thawed.session->end_generate();
        const auto child = *thawed.session->fork();
        for (Session* session : {thawed.session.get(), child.get()}) {
            SectionWriter writer;
            EXPECT_FALSE(session->save(0, writer).ok()) << at;
            ASSERT_TRUE(session->append("user", "go on").ok());
            const auto planned = session->plan(32);
            ASSERT_FALSE(planned.ok()) << at;
        }
    }
}

TEST_F(HostileSessionTest, a_changed_kv_byte_is_never_used_nor_saved_again) {
    const file::TensorInfo kv = *image_->find(tensor_name(0, "kv"));
    for (const uint64_t at : {uint64_t{0}, kv.size_bytes / 2, kv.size_bytes - 1}) {
        const std::string copy = path("changed");
        std::ifstream in(image_->path(), std::ios::binary);
        Bytes bytes{std::istreambuf_iterator<char>(in), {}};
        bytes[kv.file_offset + at] ^= 0x40;
        std::ofstream(copy, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        const Bench bench = test_bench();
        auto thawed = restore(bench, open(copy));
        ASSERT_TRUE(thawed.ok()) << thawed.error().message;  // mapping alone reads nothing
        SectionWriter writer;
        EXPECT_EQ(thawed->session->save(0, writer).error().code, ErrorCode::kCorrupt);
        thawed->session->end_generate();
        ASSERT_TRUE(thawed->session->append("user", "go on").ok());
        EXPECT_EQ(thawed->session->plan(8).error().code, ErrorCode::kCorrupt);
    }
}

TEST_F(HostileSessionTest, no_change_of_the_small_tensors_crashes) {
    for (const char* part : {"state", "transcript"}) {
        const std::string name = tensor_name(0, part);
        const Bytes good = tensors().by_name.at(name).bytes;
        size_t refused = 0;
        for (size_t at = 0; at < good.size(); ++at) {
            Tensors changed = tensors();
            changed.by_name.at(name).bytes[at] ^= static_cast<uint8_t>(1 << at % 8);
            const auto failure = try_out(forge(changed));
            refused += failure.has_value();
            if (failure) {
                EXPECT_FALSE(failure->message.empty());
            }
        }
        EXPECT_GT(refused, good.size() / 4) << part;
        for (size_t length = 0; length < good.size(); length += 1 + length / 8) {
            Tensors changed = tensors();
            changed.by_name.at(name).bytes.resize(length);
            changed.by_name.at(name).shape = {length};
            EXPECT_TRUE(try_out(forge(changed))) << part << " cut to " << length;
        }
    }
}

// Fields of the state that only make sense together, each made wrong by the encoding's own rules.
TEST_F(HostileSessionTest, a_generate_that_contradicts_its_conversation_is_refused) {
    struct Fields {
        uint32_t computed;
        uint8_t tail = 1;
        float temperature = 1.0F, top_p = 0.0F;
        uint32_t max_tokens = 40;
        uint8_t finish = 0;
        uint32_t part = 2, produced = 5;
        std::string output, held;
    };
    const auto code_with = [&](const std::function<void(Fields&)>& change) {
        Fields f{.computed = session_->computed(), .output = {}, .held = {}};
        change(f);
        file::Encoder out;
        out.begin_record("SESS", 1);
        out.str("test");
        out.bytes(bench_.model->compute_identity());
        out.bytes(bench_.model->text_identity());
        out.u32(f.computed);
        out.u8(f.tail);
        out.u8(1);
        out.begin_record("GENR", 1);
        out.f32(f.temperature);
        out.f32(f.top_p);
        out.u32(0);
        out.u64(1);
        out.u32(f.max_tokens);
        out.u8(f.finish);
        out.u32(f.part);
        out.u32(f.produced);
        out.str(f.output);
        out.str(f.held);
        out.end_record();
        out.end_record();
        Tensors changed = tensors();
        auto& state = changed.by_name.at(tensor_name(0, "state"));
        state.bytes = out.take();
        state.shape = {state.bytes.size()};
        const auto failure = try_out(forge(changed));
        return failure ? std::optional(failure->code) : std::nullopt;
    };
    EXPECT_EQ(code_with([](Fields&) {}), std::nullopt);
    const std::function<void(Fields&)> changes[] = {
        [](Fields& f) { f.computed += 1; },
        [](Fields& f) { f.tail = 0; },
        [](Fields& f) { f.tail = 3; },
        [](Fields& f) { f.temperature = std::numeric_limits<float>::quiet_NaN(); },
        [](Fields& f) { f.temperature = 1e-30F; },
        [](Fields& f) { f.top_p = 2.0F; },
        [](Fields& f) { f.max_tokens = 5; },
        [](Fields& f) { f.finish = 6; },
        [](Fields& f) { f.finish = 1; },
        [](Fields& f) { f.part = 1; },
        [](Fields& f) { f.part = 9; },
        [](Fields& f) { f.produced = 39; },
        [](Fields& f) { f.output = "never said that"; },
        [](Fields& f) { f.output = "\xFF"; },
        [](Fields& f) { f.held = "abc"; },
        [](Fields& f) {
            f.held = "\xE2";
            f.finish = 4;
        },
    };
    int index = 0;
    for (const auto& change : changes) EXPECT_EQ(code_with(change), ErrorCode::kCorrupt) << index++;
}

}  // namespace
}  // namespace driftwood::session
