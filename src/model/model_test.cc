#include "model/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "compute/engine.h"
#include "model/gguf.h"
#include "model/synth.h"

namespace driftwood::model {
namespace {

using Special = Tokenizer::Special;
using Bytes = std::vector<uint8_t>;

// The bytes live as long as the model.
struct Loaded {
    Bytes bytes;
    std::unique_ptr<Model> model;
};

Loaded load(const GgufWriter& writer) {
    Loaded out{writer.finish(), nullptr};
    auto model = load_gguf("test", out.bytes);
    CHECK(model.ok());
    out.model = *std::move(model);
    return out;
}

GgufWriter synth(uint64_t seed = 1) {
    return *synth_gguf({.layers = 1, .d_model = 32, .heads = 2, .kv_heads = 1}, seed);
}

std::string decode(const Tokenizer& tokenizer, const std::vector<uint32_t>& ids) {
    std::string out;
    for (const uint32_t id : ids) out += tokenizer.bytes(id);
    return out;
}

TEST(TokenizerTest, gives_back_every_text) {
    const Loaded loaded = load(synth());
    const Tokenizer& tokenizer = loaded.model->tokenizer();
    std::string all_ascii;
    for (char c = 1; c < 127; ++c) all_ascii += c;
    for (const std::string& text :
         {std::string(""), std::string("the tea on the east"), std::string("Grüße,\t日本語 😀\n\n  x"), all_ascii,
          std::string("\0\0", 2), std::string(5000, 'e')}) {
        const auto ids = tokenizer.encode(text, Special::kText);
        ASSERT_TRUE(ids.ok()) << ids.error().message;
        EXPECT_EQ(decode(tokenizer, *ids), text);
    }
    EXPECT_LT(tokenizer.encode("tea", Special::kText)->size(), 3u);  // merges are used
}

TEST(TokenizerTest, a_token_may_be_a_part_of_a_character) {
    const Loaded loaded = load(synth());
    const auto ids = *loaded.model->tokenizer().encode("€", Special::kText);
    ASSERT_EQ(ids.size(), 3u);
    EXPECT_EQ(loaded.model->tokenizer().bytes(ids[0]), "\xE2");
}

TEST(TokenizerTest, special_tokens_come_from_templates_only) {
    const Loaded loaded = load(synth());
    const Tokenizer& tokenizer = loaded.model->tokenizer();
    const std::string text = "<|user|>hi<|end|>";
    const auto parsed = *tokenizer.encode(text, Special::kParse);
    EXPECT_EQ(parsed.front(), 1u);
    EXPECT_EQ(parsed.back(), 4u);
    EXPECT_EQ(decode(tokenizer, parsed), "hi");
    const auto plain = *tokenizer.encode(text, Special::kText);
    for (const uint32_t id : plain) EXPECT_GE(id, kSynthSpecials);
    EXPECT_EQ(decode(tokenizer, plain), text);
    EXPECT_TRUE(tokenizer.ends_turn(4));
    EXPECT_FALSE(tokenizer.ends_turn(1));
    EXPECT_FALSE(tokenizer.ends_turn(100'000));
}

TEST(TokenizerTest, refuses_text_that_is_not_utf8) {
    const Loaded loaded = load(synth());
    EXPECT_EQ(loaded.model->tokenizer().encode("a\xFF", Special::kText).error().code, ErrorCode::kInvalidArgument);
}

TEST(TokenizerTest, says_so_when_the_vocabulary_cannot_spell_a_text) {
    const Loaded whole = load(synth());
    const auto file = Gguf::parse("test", whole.bytes);
    const auto views = *file->strings("tokenizer.ggml.tokens");
    std::vector<std::string> tokens(views.begin(), views.end());
    tokens[kSynthSpecials + '#'] = "zzzz";
    GgufWriter writer = synth();
    writer.drop("tokenizer.ggml.tokens");
    writer.strings("tokenizer.ggml.tokens", tokens);
    const Loaded loaded = load(writer);
    EXPECT_EQ(loaded.model->tokenizer().encode("a#b", Special::kText).error().code, ErrorCode::kUnsupported);
    EXPECT_TRUE(loaded.model->tokenizer().encode("a+b", Special::kText).ok());
}

// Cuts by the rules of each pre-tokenizer, seen through a vocabulary that merges whatever it may.
std::vector<std::string> cut(const char* pre, const std::string& text) {
    std::vector<std::string> tokens = {"<|end|>"};
    std::vector<int32_t> types = {3};
    const Loaded bytes_only = load(synth());
    for (uint32_t id = kSynthSpecials; id < kMinSynthVocab; ++id) {
        const auto file = Gguf::parse("test", bytes_only.bytes);
        tokens.emplace_back((*file->strings("tokenizer.ggml.tokens"))[id]);
    }
    std::vector<std::string> merges;
    const auto merge = [&](const std::string& a, const std::string& b) {
        tokens.push_back(a + b);
        merges.push_back(a + " " + b);
    };
    merge("1", "2");
    merge("12", "3");
    merge("123", "4");
    merge("a", "b");
    merge("Ġ", "ab");
    merge("'", "L");
    merge("'L", "L");
    merge("!", "!");
    merge("!!", "Ċ");
    merge("x", "'LL");
    types.resize(tokens.size(), 1);
    const SynthShape shape{
        .layers = 1, .d_model = 32, .heads = 2, .kv_heads = 1, .vocab = static_cast<uint32_t>(tokens.size())};
    GgufWriter writer = *synth_gguf(shape, 1);
    for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
                            "tokenizer.ggml.pre", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"}) {
        writer.drop(key);
    }
    writer.strings("tokenizer.ggml.tokens", tokens);
    writer.i32s("tokenizer.ggml.token_type", types);
    writer.strings("tokenizer.ggml.merges", merges);
    writer.string("tokenizer.ggml.pre", pre);
    const Loaded loaded = load(writer);
    std::vector<std::string> out;
    const auto ids = loaded.model->tokenizer().encode(text, Special::kText);
    CHECK(ids.ok());
    for (const uint32_t id : *ids) out.emplace_back(loaded.model->tokenizer().bytes(id));
    return out;
}

TEST(PreTokenizerTest, each_model_cuts_by_its_own_rules) {
    using V = std::vector<std::string>;
    EXPECT_EQ(cut("gpt-2", "1234 ab"), (V{"1234", " ab"}));
    EXPECT_EQ(cut("llama-bpe", "1234 ab"), (V{"123", "4", " ab"}));
    EXPECT_EQ(cut("qwen2", "1234 ab"), (V{"1", "2", "3", "4", " ab"}));
    EXPECT_EQ(cut("smollm", "1234 ab"), (V{"1", "2", "3", "4", " ab"}));
    // Llama 3 and Qwen keep newlines with punctuation and know contractions in capitals.
    EXPECT_EQ(cut("llama-bpe", "!!\n"), (V{"!!\n"}));
    EXPECT_EQ(cut("gpt-2", "!!\n"), (V{"!!", "\n"}));
    EXPECT_EQ(cut("qwen2", "x'LL"), (V{"x", "'LL"}));
    EXPECT_EQ(cut("gpt-2", "x'LL"), (V{"x", "'", "L", "L"}));
    // Qwen normalises to NFC.
    EXPECT_EQ(cut("qwen2", "e\u0301"), cut("qwen2", "\u00E9"));
    EXPECT_NE(cut("llama-bpe", "e\u0301"), cut("llama-bpe", "\u00E9"));
}

TEST(TemplateTest, writes_the_conversation) {
    const Loaded loaded = load(synth());
    const Message messages[] = {{"user", "hi"}, {"assistant", "yes"}, {"user", "so"}};
    EXPECT_EQ(*loaded.model->render(messages, true),
              "<|bos|><|user|>hi<|end|><|assistant|>yes<|end|><|user|>so<|end|><|assistant|>");
    EXPECT_EQ(*loaded.model->render({messages, 1}, false), "<|bos|><|user|>hi<|end|>");
}

TEST(TemplateTest, a_model_without_one_loads_and_says_so_when_asked) {
    GgufWriter writer = synth();
    writer.drop("tokenizer.chat_template");
    const Loaded loaded = load(writer);
    const auto outcome = loaded.model->render({}, true);
    EXPECT_EQ(outcome.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(outcome.error().message.find("tokenizer.chat_template"), std::string::npos);
}

TEST(TemplateTest, an_endless_or_refusing_template_is_an_error) {
    for (const char* source : {"{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
                               "{{ raise_exception('no system messages') }}", "{% if %}", "{{ messages[7].role.x }}"}) {
        GgufWriter writer = synth();
        writer.drop("tokenizer.chat_template");
        writer.string("tokenizer.chat_template", source);
        const Loaded loaded = load(writer);
        const auto outcome = loaded.model->render({}, false);
        ASSERT_FALSE(outcome.ok()) << source;
        EXPECT_EQ(outcome.error().code, ErrorCode::kInvalidArgument);
    }
}

TEST(IdentityTest, weights_decide_the_compute_identity_and_words_the_text_identity) {
    const Loaded a = load(synth(1));
    const Loaded again = load(synth(1));
    EXPECT_EQ(a.model->compute_identity(), again.model->compute_identity());
    EXPECT_EQ(a.model->text_identity(), again.model->text_identity());

    const Loaded other_weights = load(synth(2));
    EXPECT_NE(a.model->compute_identity(), other_weights.model->compute_identity());
    EXPECT_EQ(a.model->text_identity(), other_weights.model->text_identity());

    GgufWriter writer = synth(1);
    writer.drop("tokenizer.chat_template");
    writer.string("tokenizer.chat_template", "{{ messages }}");
    const Loaded other_template = load(writer);
    EXPECT_EQ(a.model->compute_identity(), other_template.model->compute_identity());
    EXPECT_NE(a.model->text_identity(), other_template.model->text_identity());

    GgufWriter eps = synth(1);
    eps.drop("llama.attention.layer_norm_rms_epsilon");
    eps.f32("llama.attention.layer_norm_rms_epsilon", 1e-6F);
    EXPECT_NE(a.model->compute_identity(), load(eps).model->compute_identity());
    GgufWriter theta = synth(1);
    theta.drop("llama.rope.freq_base");
    theta.f32("llama.rope.freq_base", 500000.0F);
    EXPECT_NE(a.model->compute_identity(), load(theta).model->compute_identity());
}

TEST(IdentityTest, every_tensor_counts) {
    const Bytes bytes =
        *synth_model({.layers = 1, .d_model = 32, .heads = 2, .kv_heads = 1, .tied = false, .rope_freqs = true}, 3);
    const auto file = Gguf::parse("test", bytes);
    const file::Hash whole = (*load_gguf("test", bytes))->compute_identity();
    for (const auto& [name, tensor] : file->tensors()) {
        Bytes changed = bytes;
        changed[static_cast<size_t>(tensor.data.data() - bytes.data()) + tensor.data.size() / 2] ^= 1;
        const auto model = load_gguf("test", changed);
        ASSERT_TRUE(model.ok()) << name;
        EXPECT_NE((*model)->compute_identity(), whole) << name;
    }
}

// Tying is how a file stores an output, not what it computes.
TEST(IdentityTest, a_tied_output_equals_the_same_output_spelled_out) {
    const Loaded tied = load(synth(1));
    const auto file = Gguf::parse("test", tied.bytes);
    const GgufTensor& embedding = *file->tensor("token_embd.weight");
    GgufWriter writer = synth(1);
    writer.tensor("output.weight", kGgmlQ80, embedding.shape, Bytes(embedding.data.begin(), embedding.data.end()));
    EXPECT_EQ(load(writer).model->compute_identity(), tied.model->compute_identity());
}

TEST(SynthTest, activations_stay_sane_and_logits_vary) {
    const SynthShape shape{.layers = 8, .d_model = 128, .heads = 8, .kv_heads = 2, .head_dim = 16, .d_ff = 256};
    const Bytes bytes = *synth_model(shape, 7);
    EXPECT_EQ(bytes, *synth_model(shape, 7));
    const auto model = load_gguf("test", bytes);
    ASSERT_TRUE(model.ok()) << model.error().message;
    auto engine = compute::make_engine("reference", (*model)->spec(), {.threads = 1, .kv_blocks = 4});
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    const std::vector<uint32_t> tokens = *(*model)->tokenizer().encode("the rain in spain stays", Special::kText);
    const compute::BlockId block = *(*engine)->pool().allocate();
    std::vector<float> logits(tokens.size() * shape.vocab);
    compute::BatchItem item{
        .tokens = tokens, .first_position = 0, .blocks = {&block, 1}, .logits = logits, .error = {}};
    (*engine)->step({&item, 1});
    ASSERT_FALSE(item.error);
    std::set<uint32_t> best;
    for (size_t row = 0; row < tokens.size(); ++row) {
        const auto begin = logits.begin() + static_cast<ptrdiff_t>(row * shape.vocab);
        double sum = 0, squares = 0;
        for (auto it = begin; it != begin + shape.vocab; ++it) {
            sum += *it;
            squares += double{*it} * *it;
        }
        const double mean = sum / shape.vocab;
        const double deviation = std::sqrt(squares / shape.vocab - mean * mean);
        EXPECT_GT(deviation, 0.5);
        EXPECT_LT(deviation, 8.0);
        best.insert(static_cast<uint32_t>(std::max_element(begin, begin + shape.vocab) - begin));
    }
    EXPECT_GT(best.size(), tokens.size() / 2);
}

// Every type of weights that GGUF has, as most and as some of the matrices: the file loads and computes.
TEST(SynthTest, models_of_every_type_of_weights_load_and_compute) {
    using compute::WeightType;
    for (uint32_t i = 0; i < compute::kWeightTypes; ++i) {
        SynthShape shape{.layers = 2, .d_model = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .d_ff = 256};
        shape.type = static_cast<WeightType>(i);
        if (!ggml_type_of(shape.type)) {
            EXPECT_FALSE(synth_model(shape, 1).ok());
            continue;
        }
        SCOPED_TRACE(compute::weight_type_name(shape.type));
        for (const bool tied : {true, false}) {
            shape.tied = tied;
            if (!tied) shape.second_type = shape.type == WeightType::kQ4_K ? WeightType::kQ6_K : WeightType::kF16;
            const Loaded loaded = load(*synth_gguf(shape, 5));
            ASSERT_TRUE(loaded.model);
            EXPECT_EQ(loaded.model->spec().embedding.type, shape.type);
            EXPECT_EQ(loaded.model->spec().layer[0].w_up.type,
                      compute::is_plain_float(shape.type) ? WeightType::kW16 : shape.type);
            auto engine = compute::make_engine("auto", loaded.model->spec(), {.threads = 1, .kv_blocks = 4});
            ASSERT_TRUE(engine.ok()) << engine.error().message;
            const std::vector<uint32_t> tokens = {1, 2, 300, 4};
            const compute::BlockId block = *(*engine)->pool().allocate();
            std::vector<float> logits(shape.vocab);
            compute::BatchItem item{
                .tokens = tokens, .first_position = 0, .blocks = {&block, 1}, .logits = logits, .error = {}};
            (*engine)->step({&item, 1});
            ASSERT_FALSE(item.error) << item.error->message;
            double squares = 0;
            for (const float x : logits) squares += double{x} * x;
            EXPECT_GT(std::sqrt(squares / shape.vocab), 0.5);
            EXPECT_LT(std::sqrt(squares / shape.vocab), 8.0);
        }
    }
}

TEST(IdentityTest, the_bits_of_activations_count_and_a_file_may_ask_for_them) {
    const Loaded narrow = load(synth(1));
    const auto wide = load_gguf("test", narrow.bytes, compute::ActivationBits::k16);
    ASSERT_TRUE(wide.ok());
    EXPECT_EQ((*wide)->spec().activation_bits, compute::ActivationBits::k16);
    EXPECT_NE((*wide)->compute_identity(), narrow.model->compute_identity());
    GgufWriter asking = synth(1);
    asking.u32("driftwood.activation_bits", 16);
    const Loaded asked = load(asking);
    EXPECT_EQ(asked.model->compute_identity(), (*wide)->compute_identity());
    EXPECT_EQ((*load_gguf("test", asked.bytes, compute::ActivationBits::k8))->compute_identity(),
              narrow.model->compute_identity());
    GgufWriter odd = synth(1);
    odd.u32("driftwood.activation_bits", 12);
    const auto refused = load_gguf("test", odd.finish());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(refused.error().message.find("driftwood.activation_bits 12"), std::string::npos);
}

// Plain floats are checked where they become W16, and where they stay.
TEST(SynthTest, weights_that_are_not_finite_are_refused_by_name) {
    SynthShape shape;
    shape.type = compute::WeightType::kF16;
    for (const std::string name : {"token_embd.weight", "blk.1.ffn_down.weight"}) {
        Bytes bytes = *synth_model(shape, 1);
        const auto file = Gguf::parse("test", bytes);
        const GgufTensor& tensor = *file->tensor(name);
        bytes[static_cast<size_t>(tensor.data.data() - bytes.data()) + 41] = 0x7C;
        const auto refused = load_gguf("test", bytes);
        ASSERT_FALSE(refused.ok()) << name;
        EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
        EXPECT_NE(refused.error().message.find(name), std::string::npos) << refused.error().message;
    }
}

TEST(SynthTest, names_a_shape_that_makes_no_sense) {
    EXPECT_NE(synth_model({.d_model = 33}, 1).error().message.find("d_model"), std::string::npos);
    EXPECT_NE(synth_model({.kv_heads = 3}, 1).error().message.find("kv_heads"), std::string::npos);
    EXPECT_NE(synth_model({.vocab = 100}, 1).error().message.find("vocab"), std::string::npos);
}

}  // namespace
}  // namespace driftwood::model
