// Hostile GGUF files: whatever is wrong with them, loading ends in a typed error.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "model/llama_spec.h"
#include "model/model.h"
#include "model/synth.h"
#include "model/vocabulary.h"

namespace driftwood::model {
namespace {

using Bytes = std::vector<uint8_t>;

SynthShape tiny() {
    return {
        .layers = 1, .d_model = 32, .heads = 2, .kv_heads = 1, .head_dim = 16, .d_ff = 32, .vocab = 280, .context = 64};
}

GgufWriter tiny_writer() { return *synth_gguf(tiny(), 1); }
Bytes tiny_file() { return *synth_model(tiny(), 1); }

// Everything that reads the file except the tokenizer library.
Result<void> read_all(const Bytes& bytes) {
    DW_ASSIGN(const Gguf file, Gguf::parse("test", bytes));
    DW_TRY(read_llama(file));
    DW_TRY(read_vocabulary(file));
    return {};
}

Error error_of(const Bytes& bytes) {
    const auto outcome = load_gguf("test", bytes);
    EXPECT_FALSE(outcome.ok());
    return outcome.ok() ? Error{} : outcome.error();
}

size_t header_bytes(const Bytes& bytes) {
    const auto file = Gguf::parse("test", bytes);
    size_t first = bytes.size();
    for (const auto& [name, tensor] : file->tensors()) {
        first = std::min(first, static_cast<size_t>(tensor.data.data() - bytes.data()));
    }
    return first;
}

TEST(GgufTest, reads_what_was_written) {
    GgufWriter writer = tiny_writer();
    const std::string texts[] = {"a", "", "ü"};
    const int32_t numbers[] = {-1, 7};
    writer.strings("x.texts", texts);
    writer.i32s("x.numbers", numbers);
    const Bytes bytes = writer.finish();
    const auto file = Gguf::parse("test", bytes);
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(*file->integer("llama.block_count"), 1u);
    EXPECT_EQ(*file->string("general.architecture"), "llama");
    EXPECT_EQ(*file->number("llama.rope.freq_base"), 10000.0);
    EXPECT_EQ((*file->strings("x.texts"))[2], "ü");
    EXPECT_EQ(*file->i32s("x.numbers"), (std::vector<int32_t>{-1, 7}));
    EXPECT_EQ(file->tensor("token_embd.weight")->shape, (std::vector<uint64_t>{32, 280}));
    EXPECT_EQ(file->integer("general.architecture").error().code, ErrorCode::kMismatch);
    EXPECT_EQ(file->string("no.such.key").error().code, ErrorCode::kNotFound);
}

TEST(GgufTest, a_file_cut_at_any_length_is_refused) {
    const Bytes whole = tiny_file();
    const size_t header = header_bytes(whole);
    for (size_t length = 0; length < whole.size(); length += length < header ? 1 : 61) {
        const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
        const auto outcome = load_gguf("test", cut);
        ASSERT_FALSE(outcome.ok()) << length;
        ASSERT_EQ(outcome.error().code, ErrorCode::kCorrupt) << outcome.error().message;
    }
    const Bytes less(whole.begin(), whole.end() - 1);
    EXPECT_EQ(error_of(less).code, ErrorCode::kCorrupt);
}

TEST(GgufTest, a_flipped_bit_in_the_header_never_crashes) {
    Bytes bytes = tiny_file();
    const size_t header = header_bytes(bytes);
    size_t refused = 0;
    for (size_t at = 0; at < header; ++at) {
        for (int bit = at < 2048 ? 0 : static_cast<int>(at % 8); bit < 8; bit += at < 2048 ? 1 : 8) {
            bytes[at] ^= static_cast<uint8_t>(1 << bit);
            const auto outcome = read_all(bytes);
            if (!outcome.ok()) {
                ++refused;
                EXPECT_FALSE(outcome.error().message.empty());
            }
            if (at % 101 == 0) (void)load_gguf("test", bytes).ok();
            bytes[at] ^= static_cast<uint8_t>(1 << bit);
        }
    }
    EXPECT_GT(refused, header / 4);
    EXPECT_TRUE(read_all(bytes).ok());
}

// The header's numbers one by one, each made huge.
TEST(GgufTest, counts_beyond_the_limits_are_refused_before_memory_is_taken) {
    for (const uint64_t huge : {uint64_t{70'000}, uint64_t{1} << 32, ~uint64_t{0}}) {
        for (const size_t at : {size_t{8}, size_t{16}}) {
            Bytes bytes = tiny_file();
            std::memcpy(&bytes[at], &huge, sizeof huge);
            EXPECT_EQ(error_of(bytes).code, ErrorCode::kLimit);
        }
        Bytes bytes = tiny_file();
        std::memcpy(&bytes[24], &huge, sizeof huge);  // length of the first key
        EXPECT_EQ(error_of(bytes).code, ErrorCode::kLimit);
    }
}

TEST(GgufTest, an_array_longer_than_the_file_is_refused) {
    Bytes bytes = {'G', 'G', 'U', 'F', 3, 0, 0, 0,   0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,    0, 0, 0, 0, 0, 1,
                   0,   0,   0,   0,   0, 0, 0, 'k', 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x3F, 0, 0, 0, 0, 0};
    EXPECT_EQ(error_of(bytes).code, ErrorCode::kCorrupt);
    bytes[37] = 9;  // an array of arrays
    EXPECT_EQ(error_of(bytes).code, ErrorCode::kUnsupported);
    bytes[37] = 13;  // no such type
    EXPECT_EQ(error_of(bytes).code, ErrorCode::kCorrupt);
}

TEST(GgufTest, names_what_it_does_not_support) {
    struct Case {
        const char* want;
        ErrorCode code;
        std::function<void(GgufWriter&)> change;
    };
    const auto swap_string = [](const char* key, const char* value) {
        return [key, value](GgufWriter& w) {
            w.drop(key);
            w.string(key, value);
        };
    };
    const Case cases[] = {
        {"'mamba'", ErrorCode::kUnsupported, swap_string("general.architecture", "mamba")},
        {"'yarn'", ErrorCode::kUnsupported, swap_string("llama.rope.scaling.type", "yarn")},
        {"scaling.factor", ErrorCode::kUnsupported, [](GgufWriter& w) { w.f32("llama.rope.scaling.factor", 4.0F); }},
        {"'llama'", ErrorCode::kUnsupported, swap_string("tokenizer.ggml.model", "llama")},
        {"'viking'", ErrorCode::kUnsupported, swap_string("tokenizer.ggml.pre", "viking")},
        {"8 experts", ErrorCode::kUnsupported, [](GgufWriter& w) { w.u32("llama.expert_count", 8); }},
        {"'tokenizer.ggml.pre'", ErrorCode::kNotFound, [](GgufWriter& w) { w.drop("tokenizer.ggml.pre"); }},
        {"'blk.0.ffn_up.weight'", ErrorCode::kNotFound, [](GgufWriter& w) { w.drop("blk.0.ffn_up.weight"); }},
        {"'blk.0.attn_q.bias'", ErrorCode::kUnsupported,
         [](GgufWriter& w) { w.tensor("blk.0.attn_q.bias", kGgmlF32, {32}, Bytes(128)); }},
        {"is IQ4_NL", ErrorCode::kUnsupported,
         [](GgufWriter& w) {
             w.drop("blk.0.ffn_up.weight");
             w.tensor("blk.0.ffn_up.weight", 20, {32, 32}, Bytes(32 * 18));
         }},
        {"type 77", ErrorCode::kUnsupported, [](GgufWriter& w) { w.tensor("odd", 77, {32}, Bytes(32)); }},
        {"want shape [32, 32], file has [64, 32]", ErrorCode::kMismatch,
         [](GgufWriter& w) {
             w.drop("blk.0.ffn_up.weight");
             w.tensor("blk.0.ffn_up.weight", kGgmlQ80, {32, 64}, Bytes(64 * 34));
         }},
        {"comes twice", ErrorCode::kCorrupt, [](GgufWriter& w) { w.u32("llama.block_count", 1); }},
        {"comes twice", ErrorCode::kCorrupt,
         [](GgufWriter& w) { w.tensor("output_norm.weight", kGgmlF32, {32}, Bytes(128)); }},
        {"general.alignment", ErrorCode::kCorrupt, [](GgufWriter& w) { w.u32("general.alignment", 24); }},
    };
    for (const Case& test : cases) {
        GgufWriter writer = tiny_writer();
        test.change(writer);
        const Error failure = error_of(writer.finish());
        EXPECT_EQ(failure.code, test.code) << failure.message;
        EXPECT_NE(failure.message.find(test.want), std::string::npos) << failure.message;
    }
}

TEST(GgufTest, weights_that_are_not_finite_are_refused) {
    GgufWriter writer = tiny_writer();
    writer.drop("output_norm.weight");
    Bytes norm(128);
    const uint32_t nan = 0x7FC00000;
    std::memcpy(norm.data() + 64, &nan, sizeof nan);
    writer.tensor("output_norm.weight", kGgmlF32, {32}, norm);
    EXPECT_NE(error_of(writer.finish()).message.find("output_norm"), std::string::npos);
}

TEST(GgufTest, a_vocabulary_with_something_wrong_is_refused) {
    const auto with_token = [](uint32_t id, const std::string& token) {
        const Bytes bytes = tiny_file();
        const auto file = Gguf::parse("test", bytes);
        const auto views = *file->strings("tokenizer.ggml.tokens");
        std::vector<std::string> tokens(views.begin(), views.end());
        tokens[id] = token;
        GgufWriter writer = tiny_writer();
        writer.drop("tokenizer.ggml.tokens");
        writer.strings("tokenizer.ggml.tokens", tokens);
        return error_of(writer.finish()).message;
    };
    EXPECT_NE(with_token(270, "").find("token 270 has 0 bytes"), std::string::npos);
    EXPECT_NE(with_token(270, "\xFF").find("token 270 is not UTF-8"), std::string::npos);
    EXPECT_NE(with_token(270, "a b").find("outside the byte alphabet"), std::string::npos);
    EXPECT_NE(with_token(270, "a").find("comes twice"), std::string::npos);
    EXPECT_NE(with_token(270, std::string(2000, 'a')).find("2000 bytes"), std::string::npos);

    for (const char* merge : {"a", "a ", "nosuch token", "<|user |>"}) {
        GgufWriter writer = tiny_writer();
        const std::string merges[] = {merge};
        writer.drop("tokenizer.ggml.merges");
        writer.strings("tokenizer.ggml.merges", merges);
        EXPECT_EQ(error_of(writer.finish()).code, ErrorCode::kCorrupt) << merge;
    }
    GgufWriter writer = tiny_writer();
    writer.drop("tokenizer.ggml.eos_token_id");
    writer.u32("tokenizer.ggml.eos_token_id", 280);
    EXPECT_EQ(error_of(writer.finish()).code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace driftwood::model
