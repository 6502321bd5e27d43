// Whole models: the bits of logits and KV must not depend on how the work is cut up or on who does it.
#include "compute/engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <string>

#include "compute/engine_test.h"

namespace driftwood::compute {
namespace {

// Shapes that meet the kernels' edges: short super-blocks, rows not in sixteens, odd halves of heads, GQA of 1, 3, 4,
// 5, 7 and 8; and types of weights as files mix them, with activations of 8 and 16 bits. Every type is there once.
std::vector<TestShape> shapes() {
    return {
        {},
        {.layers = 2,
         .d_model = 288,
         .heads = 6,
         .kv_heads = 2,
         .head_dim = 64,
         .d_ff = 544,
         .vocab = 77,
         .rope_pairs = RopePairs::kHalves,
         .rope_factors = true,
         .tied = true},
        {.layers = 2,
         .d_model = 288,
         .heads = 6,
         .kv_heads = 2,
         .head_dim = 64,
         .d_ff = 544,
         .vocab = 77,
         .tied = true,
         .type = WeightType::kQ4_0,
         .second_type = WeightType::kQ4_0},
        {.layers = 1, .d_model = 96, .heads = 16, .kv_heads = 16, .head_dim = 26, .d_ff = 32, .vocab = 33},
        {.layers = 1, .d_model = 32, .heads = 4, .kv_heads = 1, .head_dim = 80, .d_ff = 64, .vocab = 17},
        {.layers = 1,
         .d_model = 64,
         .heads = 8,
         .kv_heads = 1,
         .head_dim = 256,
         .d_ff = 64,
         .vocab = 50,
         .rope_pairs = RopePairs::kHalves},
        {.layers = 2,
         .d_model = 256,
         .heads = 10,
         .kv_heads = 2,
         .head_dim = 128,
         .d_ff = 512,
         .vocab = 45,
         .type = WeightType::kQ4_K,
         .second_type = WeightType::kQ6_K},
        {.layers = 1,
         .d_model = 256,
         .heads = 8,
         .kv_heads = 8,
         .head_dim = 96,
         .d_ff = 256,
         .vocab = 40,
         .type = WeightType::kQ4S,
         .second_type = WeightType::kQ5_K,
         .activation_bits = ActivationBits::k16},
        {.layers = 1,
         .d_model = 288,
         .heads = 7,
         .kv_heads = 1,
         .head_dim = 64,
         .d_ff = 96,
         .vocab = 40,
         .tied = true,
         .type = WeightType::kQ4_0,
         .second_type = WeightType::kW16},
        {.layers = 1,
         .d_model = 96,
         .d_ff = 320,
         .vocab = 40,
         .type = WeightType::kQ4_1,
         .second_type = WeightType::kQ5_0},
        {.layers = 1,
         .d_model = 96,
         .d_ff = 320,
         .vocab = 40,
         .type = WeightType::kQ5_1,
         .second_type = WeightType::kQ8_0,
         .activation_bits = ActivationBits::k16},
    };
}

// Of several types of weights, as small as their blocks allow.
TestShape mixed_shape() {
    return {.layers = 1,
            .d_model = 256,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 64,
            .d_ff = 256,
            .vocab = 30,
            .context = 1024,
            .type = WeightType::kQ4_K,
            .second_type = WeightType::kQ6_K};
}

// All of them for a vectorised engine; the reference is slow, and has no edges that depend on shapes.
std::vector<TestShape> shapes_for(std::string_view engine) {
    return engine == "reference" ? std::vector<TestShape>{{}} : shapes();
}

class EngineOf : public ::testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        if (!engine_available(GetParam())) GTEST_SKIP() << "this machine cannot run the engine " << GetParam();
    }
    std::unique_ptr<Engine> make(const DecoderSpec& spec, EngineOptions options = {}) const {
        return test_engine(GetParam().c_str(), spec, options);
    }
};

class VectorEngineOf : public EngineOf {};

void expect_same(const Engine& got_engine, const TestSequence& got, const Engine& want_engine,
                 const TestSequence& want) {
    EXPECT_TRUE(same_bits(got.logits, want.logits));
    EXPECT_TRUE(got.kv(got_engine) == want.kv(want_engine)) << "KV bytes differ";
}

TEST_P(VectorEngineOf, has_the_bits_of_the_reference) {
    for (const TestShape& shape : shapes()) {
        const TestModel model = make_test_model(shape, 21);
        const std::vector<uint32_t> tokens = test_tokens(shape.vocab, 70, 22);
        const auto engine = make(model.spec);
        const auto reference = test_engine("reference", model.spec);
        expect_same(*engine, run_sequence(*engine, tokens, 70), *reference, run_sequence(*reference, tokens, 70));
    }
}

TEST_P(EngineOf, bits_do_not_depend_on_the_chunking_of_a_prompt) {
    for (const TestShape& shape : shapes_for(GetParam())) {
        const TestModel model = make_test_model(shape, 31);
        const std::vector<uint32_t> tokens = test_tokens(shape.vocab, 130, 32);
        const auto engine = make(model.spec);
        const TestSequence whole = run_sequence(*engine, tokens, tokens.size());
        for (const size_t chunk : {1, 7, 64})
            expect_same(*engine, run_sequence(*engine, tokens, chunk), *engine, whole);
    }
}

TEST_P(EngineOf, bits_do_not_depend_on_the_number_of_threads) {
    for (const TestShape& shape : shapes_for(GetParam())) {
        const TestModel model = make_test_model(shape, 41);
        const std::vector<uint32_t> tokens = test_tokens(shape.vocab, 100, 42);
        const auto one = make(model.spec, {.threads = 1});
        for (const size_t chunk : {1, 33}) {
            const TestSequence want = run_sequence(*one, tokens, chunk);
            for (const uint32_t threads : {2U, 3U, 16U}) {
                const auto many = make(model.spec, {.threads = threads});
                expect_same(*many, run_sequence(*many, tokens, chunk), *one, want);
            }
        }
    }
}

TEST_P(EngineOf, bits_do_not_depend_on_the_rest_of_the_batch) {
    const TestModel model = make_test_model({.context = 1024}, 51);
    const auto engine = make(model.spec, {.threads = 2, .kv_blocks = 256});
    // Prompts of many lengths, fed together in steps that mix prefill and decode and exceed a pass of rows.
    std::vector<std::vector<uint32_t>> prompts;
    for (uint32_t i = 0; i < 9; ++i) prompts.push_back(test_tokens(model.spec.vocab, 3 + 11 * i, 60 + i));
    std::vector<TestSequence> together(prompts.size());
    const size_t chunks[] = {3, 90, 5, 64, 17, 6, 70, 4, 9};
    for (bool more = true; more;) {
        more = false;
        std::vector<BatchItem> batch;
        for (size_t i = 0; i < prompts.size(); ++i) {
            const std::span<const uint32_t> left = std::span(prompts[i]).subspan(together[i].length);
            if (left.empty()) continue;
            more = true;
            batch.push_back(together[i].item(*engine, left.first(std::min(chunks[i], left.size()))));
        }
        engine->step(batch);
        for (const BatchItem& item : batch) EXPECT_FALSE(item.error);
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
        expect_same(*engine, together[i], *engine, run_sequence(*engine, prompts[i], prompts[i].size()));
    }
}

// 64 sessions: most decode, some are fed chunks of their prompts, in the same steps.
TEST_P(VectorEngineOf, bits_of_64_sessions_in_one_batch_are_those_of_each_alone) {
    const TestModel model = make_test_model(mixed_shape(), 55);
    const auto engine = make(model.spec, {.threads = 2, .kv_blocks = 256});
    std::vector<std::vector<uint32_t>> prompts;
    for (uint32_t i = 0; i < 64; ++i) {
        prompts.push_back(test_tokens(model.spec.vocab, i % 8 == 0 ? 150 : 8 + i % 5, 300 + i));
    }
    std::vector<TestSequence> together(prompts.size());
    for (uint32_t step = 0; step < 12; ++step) {
        std::vector<BatchItem> batch;
        for (size_t i = 0; i < prompts.size(); ++i) {
            const std::span<const uint32_t> left = std::span(prompts[i]).subspan(together[i].length);
            const size_t chunk = i % 8 == 0 ? 20 : 1;
            if (!left.empty()) batch.push_back(together[i].item(*engine, left.first(std::min(chunk, left.size()))));
        }
        engine->step(batch);
        for (const BatchItem& item : batch) EXPECT_FALSE(item.error);
    }
    for (size_t i = 0; i < prompts.size(); i += 3) {
        ASSERT_EQ(together[i].length, prompts[i].size());
        expect_same(*engine, together[i], *engine, run_sequence(*engine, prompts[i], prompts[i].size()));
    }
}

TEST_P(VectorEngineOf, bits_do_not_depend_on_chunks_as_long_as_a_step) {
    const TestModel model = make_test_model(mixed_shape(), 56);
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, 530, 57);
    const auto engine = make(model.spec, {.threads = 2, .kv_blocks = 128});
    const TestSequence want = run_sequence(*engine, tokens, kMaxStepTokens);
    for (const size_t chunk : {1, 7, 64, 512}) {
        expect_same(*engine, run_sequence(*engine, tokens, chunk), *engine, want);
    }
}

TEST_P(EngineOf, a_step_of_more_rows_than_a_pass_gives_the_same_bits) {
    const TestModel model =
        make_test_model({.layers = 1, .d_model = 32, .heads = 2, .kv_heads = 1, .d_ff = 32, .vocab = 20}, 71);
    const auto engine = make(model.spec);
    const std::vector<uint32_t> tokens = test_tokens(20, 400, 72);
    TestSequence a, b;
    BatchItem items[] = {a.item(*engine, tokens), b.item(*engine, tokens)};
    engine->step(items);
    expect_same(*engine, a, *engine, b);
    expect_same(*engine, a, *engine, run_sequence(*engine, tokens, 100));
}

TEST_P(EngineOf, bits_do_not_depend_on_subnormals_being_kept_or_flushed) {
    for (const TestShape& shape : shapes_for(GetParam())) {
        const TestModel model = make_test_model(shape, 81);
        const std::vector<uint32_t> tokens = test_tokens(shape.vocab, 70, 82);
        const auto keep = make(model.spec, {.threads = 2});
        const auto flush = make(model.spec, {.threads = 2, .subnormals = Subnormals::kFlush});
        expect_same(*flush, run_sequence(*flush, tokens, 35), *keep, run_sequence(*keep, tokens, 35));
    }
}

TEST_P(EngineOf, bits_of_a_model_of_tiny_numbers_do_not_depend_on_subnormals_either) {
    const std::vector<uint32_t> tokens = test_tokens(TestShape{}.vocab, 12, 84);
    for (const WeightType type : {WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kW16}) {
        for (const int exponent : {-50, -58, -60, -62, -100, -119, -120, -121, -122, -125}) {
            for (const uint32_t every : {1U, 2U}) {  // group of 32
                // Norm weights so small that what follows lies around the bound below which a group counts as zero.
                TestModel model = make_test_model({.type = type, .second_type = type}, 83);
                for (auto& norm : model.norms) {
                    for (size_t i = 0; i < norm.size(); ++i) {
                        if (i / kGroup % every == 0) norm[i] = std::ldexp(norm[i], exponent);
                    }
                }
                const auto keep = make(model.spec);
                const auto flush = make(model.spec, {.subnormals = Subnormals::kFlush});
                expect_same(*flush, run_sequence(*flush, tokens, 12), *keep, run_sequence(*keep, tokens, 12));
            }
        }
    }
}

TEST_P(EngineOf, bits_do_not_depend_on_the_callers_floating_point_mode_which_comes_back) {
    const TestModel model = make_test_model({}, 91);
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, 30, 92);
    const auto plain = make(model.spec);
    const TestSequence want = run_sequence(*plain, tokens, 30);
    TestSequence got;
    std::unique_ptr<Engine> engine;
    int rounding_after = 0;
    volatile float tiny = 0x1p-126F;
    {
        const FpEnvironment odd(Subnormals::kFlush);
        std::fesetround(FE_TOWARDZERO);
        engine = make(model.spec, {.threads = 2});
        got = run_sequence(*engine, tokens, 30);
        rounding_after = std::fegetround();
        tiny = tiny * 0.5F;
    }
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(rounding_after, FE_TOWARDZERO);
    EXPECT_EQ(tiny, 0.0F) << "flushing was not restored";
    expect_same(*engine, got, *plain, want);
}

TEST_P(EngineOf, logits_of_the_last_token_are_those_of_every_token) {
    const TestModel model = make_test_model({}, 101);
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, 40, 102);
    const auto engine = make(model.spec);
    const TestSequence every = run_sequence(*engine, tokens, 40);
    TestSequence sequence;
    BatchItem item = sequence.item(*engine, tokens);
    std::vector<float> last(model.spec.vocab);
    item.logits = last;
    engine->step({&item, 1});
    EXPECT_TRUE(same_bits(last, std::span(every.logits).last(last.size())));
}

// ---- what is not finite

TEST_P(EngineOf, an_item_with_infinite_activations_fails_and_names_the_place) {
    TestModel model = make_test_model({}, 111);
    // The first feed-forward block sees numbers so large that gate times up overflows.
    for (float& w : model.norms[1]) w = 1e30F;
    const auto engine = make(model.spec, {.threads = 2});
    std::vector<uint32_t> good = test_tokens(model.spec.vocab, 5, 112);
    TestSequence sequence;
    BatchItem item = sequence.item(*engine, good);
    engine->step({&item, 1});
    ASSERT_TRUE(item.error);
    EXPECT_EQ(item.error->code, ErrorCode::kNotFinite);
    EXPECT_NE(item.error->message.find("layers.0.w_gate/w_up"), std::string::npos) << item.error->message;
    EXPECT_TRUE(std::all_of(sequence.logits.begin(), sequence.logits.end(), [](float x) { return x == 0.0F; }));
    const std::vector<uint8_t> kv = sequence.kv(*engine);
    EXPECT_TRUE(std::all_of(kv.begin(), kv.end(), [](uint8_t byte) { return byte == 0; }));
}

// A model in which only token 7 goes wrong, at the first layer's keys: the others' embeddings lack the column whose key
// weights are largest.
TestModel model_that_fails_at_token_7() {
    TestModel model = make_test_model({}, 121);
    const DecoderSpec& spec = model.spec;
    const size_t bytes = row_bytes(WeightType::kQ8_0, spec.d_model);
    for (uint32_t token = 0; token < spec.vocab; ++token)
        mutable_bytes(spec.embedding)[token * bytes + 2] = token == 7 ? 127 : 0;
    model.norms[0][0] = 1e36F;  // finite times any weight but those below
    for (uint32_t row = 0; row < spec.kv_heads * spec.head_dim; ++row) {
        mutable_bytes(spec.layer[0].wk)[row * bytes + 1] = 0x4F;  // scale of about 28
        mutable_bytes(spec.layer[0].wk)[row * bytes + 2] = 127;
    }
    return model;
}

TEST_P(EngineOf, neighbours_of_an_item_that_fails_have_the_bits_they_have_alone) {
    const TestModel model = model_that_fails_at_token_7();
    const auto engine = make(model.spec, {.threads = 2});
    const std::vector<uint32_t> good = {1, 2, 3, 4, 5};
    const std::vector<uint32_t> bad = {1, 2, 7, 4, 5};
    const TestSequence alone = run_sequence(*engine, good, 5);
    TestSequence first, spoiled, last;
    BatchItem items[] = {first.item(*engine, good), spoiled.item(*engine, bad), last.item(*engine, good)};
    engine->step(items);
    EXPECT_FALSE(items[0].error);
    ASSERT_TRUE(items[1].error);
    EXPECT_NE(items[1].error->message.find("position 2"), std::string::npos) << items[1].error->message;
    EXPECT_FALSE(items[2].error);
    expect_same(*engine, first, *engine, alone);
    expect_same(*engine, last, *engine, alone);
}

TEST_P(EngineOf, an_error_clears_the_rows_of_its_step_and_keeps_earlier_ones) {
    const TestModel model = model_that_fails_at_token_7();
    const auto engine = make(model.spec);
    std::vector<uint32_t> tokens(80);
    for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i % 7;
    TestSequence sequence = run_sequence(*engine, tokens, 80);
    const std::vector<uint8_t> before = sequence.kv(*engine);
    tokens[50] = 7;
    BatchItem item = sequence.item(*engine, tokens);
    engine->step({&item, 1});
    ASSERT_TRUE(item.error);
    EXPECT_NE(item.error->message.find("layers.0.k"), std::string::npos) << item.error->message;
    EXPECT_NE(item.error->message.find("position 130"), std::string::npos) << item.error->message;
    std::vector<uint8_t> after = sequence.kv(*engine);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
    EXPECT_TRUE(std::all_of(after.begin() + static_cast<ptrdiff_t>(before.size()), after.end(),
                            [](uint8_t b) { return b == 0; }));
}

// ---- blocks move

// A file in memory with the blocks of a sequence.
int kv_file(const TestSequence& sequence, const Engine& engine) {
    const std::vector<uint8_t> bytes = sequence.kv(engine);
    const int fd = memfd_create("kv", MFD_CLOEXEC);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return fd;
}

TEST_P(EngineOf, a_conversation_goes_on_from_another_engines_file_and_back_with_the_same_bits) {
    const TestModel model = make_test_model({.d_model = 128, .kv_heads = 1, .head_dim = 64}, 141);
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, 260, 142);
    const auto engine = make(model.spec);
    const auto reference = test_engine("reference", model.spec);
    const TestSequence want = run_sequence(*reference, tokens, 130);
    // Each leg takes over from a file what the one before computed, and goes on for some tokens: 100, 70, 90.
    TestSequence sequence = run_sequence(*reference, std::span(tokens).first(100), 100);
    Engine* from = reference.get();
    for (const uint32_t count : {70U, 90U}) {
        Engine* to = from == engine.get() ? reference.get() : engine.get();
        const int fd = kv_file(sequence, *from);
        TestSequence moved = sequence;
        moved.blocks = to->pool().adopt(fd, 0, static_cast<uint32_t>(sequence.blocks.size())).value();
        for (const BlockId block : moved.blocks) EXPECT_TRUE(to->pool().validate(block).ok());
        BatchItem item = moved.item(*to, std::span(tokens).subspan(moved.length, count));
        to->step({&item, 1});
        for (const BlockId block : moved.blocks) EXPECT_TRUE(to->pool().check_intact(block).ok());
        ASSERT_FALSE(item.error) << item.error->message;
        close(fd);
        sequence = std::move(moved);
        from = to;
    }
    expect_same(*from, sequence, *reference, want);
}

TEST_P(EngineOf, a_block_is_zero_when_handed_out_again_and_copies_only_the_rows_asked_for) {
    const TestModel model = make_test_model({}, 151);
    const auto engine = make(model.spec, {.kv_blocks = 3});
    KvPool& pool = engine->pool();
    const std::vector<uint32_t> tokens = test_tokens(model.spec.vocab, 64, 152);
    for (int round = 0; round < 3; ++round) {
        const TestSequence sequence = run_sequence(*engine, tokens, 40);
        const BlockId copy = pool.allocate().value();
        pool.copy(sequence.blocks[0], copy, 50);
        std::vector<uint8_t> rows(sequence.kv(*engine));
        const std::span<const uint8_t> copied = pool.bytes(copy);
        EXPECT_FALSE(std::equal(rows.begin(), rows.end(), copied.begin()));
        clear_block_rows(pool.layout(), rows.data(), 50);
        EXPECT_TRUE(std::equal(rows.begin(), rows.end(), copied.begin()));
        pool.clear_rows(sequence.blocks[0], 50);
        EXPECT_TRUE(sequence.kv(*engine) == rows);
        for (const BlockId block : {sequence.blocks[0], copy}) {
            pool.release(block);
            const BlockId again = pool.allocate().value();
            const std::span<const uint8_t> bytes = pool.bytes(again);
            EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; }));
            // A step that writes row 0 brings back what lies on the device, not only its mirror: all else is zero
            // there.
            BatchItem item{.tokens = std::span(tokens).first(1),
                           .first_position = 0,
                           .blocks = {&again, 1},
                           .logits = {},
                           .error = {}};
            engine->step({&item, 1});
            const std::vector<uint8_t> got(pool.bytes(again).begin(), pool.bytes(again).end());
            std::vector<uint8_t> first_row = got;
            clear_block_rows(pool.layout(), first_row.data(), 1);
            EXPECT_TRUE(got == first_row);
            pool.release(again);
        }
    }
}

// The reference is the last of them.
std::vector<std::string> engine_names(size_t without_last) {
    std::vector<std::string> names;
    for (const EngineInfo& info : engines().first(engines().size() - without_last)) names.emplace_back(info.name);
    return names;
}

INSTANTIATE_TEST_SUITE_P(isa, EngineOf, ::testing::ValuesIn(engine_names(0)),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(isa, VectorEngineOf, ::testing::ValuesIn(engine_names(1)),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace driftwood::compute
