// Model files of our own: they load, compute and identify themselves as GGUF's do; whatever is wrong with one, loading
// ends in a typed error.
#include "model/model_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "file/encoding.h"
#include "file/test_directory.h"
#include "model/model.h"
#include "model/synth.h"
#include "model/test_logits.h"

namespace driftwood::model {
namespace {

using Bytes = std::vector<uint8_t>;
using compute::WeightType;
using file::DType;
using file::SectionReader;

constexpr file::SectionWriter::CommitOptions kNotDurable = {.replace = true, .durable = false};

SynthShape small() {
    return {.layers = 1,
            .d_model = 256,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 64,
            .d_ff = 256,
            .rope_freqs = true,
            .type = WeightType::kQ4S};
}

// What is in a file, to be changed and written again, with hashes that are right.
struct Parts {
    struct Tensor {
        DType dtype;
        std::vector<uint64_t> shape;
        Bytes bytes;
    };
    std::map<std::string, std::string> metadata;
    std::map<std::string, Tensor> tensors;

    explicit Parts(const std::string& path) {
        const auto reader = SectionReader::open(path, SectionReader::Hashes::kRequired).value();
        metadata = reader.metadata();
        metadata.erase("root_hash");
        for (const auto& [name, info] : reader.tensors()) {
            const auto bytes = reader.bytes(info);
            tensors[name] = {info.dtype, info.shape, {bytes.begin(), bytes.end()}};
        }
    }
    void write(const std::string& path) const {
        file::SectionWriter writer;
        for (const auto& [key, value] : metadata) writer.set_metadata(key, value);
        for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype, tensor.shape, {tensor.bytes});
        ASSERT_TRUE(writer.commit(path, kNotDurable).ok());
    }
    // In the text of the config.
    void replace(const std::string& from, const std::string& to) {
        std::string& config = metadata["config"];
        const size_t at = config.find(from);
        ASSERT_NE(at, std::string::npos) << config;
        config.replace(at, from.size(), to);
    }
};

class ModelFileTest : public ::testing::Test {
  protected:
    const file::TestDirectory directory_;
    const std::string path_ = directory_.file("model.safetensors");

    std::unique_ptr<Model> make(const SynthShape& shape, uint64_t seed = 1) {
        const auto writer = synth_model_file(shape, seed);
        EXPECT_TRUE(writer.ok()) << writer.error().message;
        EXPECT_TRUE(writer->commit(path_, kNotDurable).ok());
        auto model = load_model(path_);
        EXPECT_TRUE(model.ok()) << model.error().message;
        return *std::move(model);
    }
    Result<std::unique_ptr<Model>> load(const Parts& parts) {
        parts.write(path_);
        return load_model(path_);
    }
};

TEST_F(ModelFileTest, a_q4s_model_is_mapped_and_computes_the_same_on_every_engine) {
    for (const bool tied : {true, false}) {
        SynthShape shape = small();
        shape.tied = tied;
        const auto model = make(shape);
        const compute::DecoderSpec& spec = model->spec();
        EXPECT_EQ(spec.embedding.type, WeightType::kQ4S);
        EXPECT_EQ(spec.layer[0].w_down.type, WeightType::kQ4S);
        EXPECT_EQ(spec.output.bytes.data() == spec.embedding.bytes.data(), tied);
        EXPECT_EQ(spec.rope_factors.size(), 32U);
        // Views of the map, at the places that the file promises.
        EXPECT_EQ(reinterpret_cast<uintptr_t>(spec.layer[0].wq.bytes.data()) % 4096, 0U);
        const std::vector<float> logits = logits_of(*model, "auto");
        const std::vector<float> want = logits_of(*model, "reference");
        EXPECT_EQ(std::memcmp(logits.data(), want.data(), want.size() * sizeof(float)), 0);
        double squares = 0;
        for (const float x : logits) squares += double{x} * x;
        EXPECT_GT(std::sqrt(squares / static_cast<double>(logits.size())), 0.5);
        EXPECT_LT(std::sqrt(squares / static_cast<double>(logits.size())), 8.0);
    }
}

TEST_F(ModelFileTest, the_same_seed_gives_the_same_file_and_another_another) {
    make(small(), 1);
    const Bytes first = file::read_all(path_);
    make(small(), 1);
    EXPECT_EQ(file::read_all(path_), first);
    make(small(), 2);
    EXPECT_NE(file::read_all(path_), first);
}

// The layout is a container: vocabulary and template make the identity that they make in GGUF.
TEST_F(ModelFileTest, text_is_what_the_same_vocabulary_gives_in_gguf) {
    const auto model = make(small());
    SynthShape shape = small();
    shape.type = WeightType::kQ8_0;
    const Bytes bytes = *synth_model(shape, 1);
    const auto gguf = *load_gguf("test", bytes);
    EXPECT_EQ(model->text_identity(), gguf->text_identity());
    EXPECT_NE(model->compute_identity(), gguf->compute_identity());
    const std::string text = "the tea on the east; Grüße 😀";
    EXPECT_EQ(*model->tokenizer().encode(text, Tokenizer::Special::kText),
              *gguf->tokenizer().encode(text, Tokenizer::Special::kText));
    const Message messages[] = {{"user", "hi"}};
    EXPECT_EQ(*model->render(messages, true), *gguf->render(messages, true));
    EXPECT_EQ(model->name(), gguf->name());
}

TEST_F(ModelFileTest, every_tensor_and_every_number_counts_in_the_compute_identity) {
    SynthShape shape = small();
    shape.tied = false;
    const file::Hash whole = make(shape)->compute_identity();
    const Parts parts(path_);
    EXPECT_EQ((*load(parts))->compute_identity(), whole);
    for (const auto& [name, tensor] : parts.tensors) {
        if (name == "tokenizer.vocabulary") continue;
        Parts changed = parts;
        changed.tensors[name].bytes[tensor.bytes.size() / 2] ^= 1;
        const auto model = load(changed);
        ASSERT_TRUE(model.ok()) << name << ": " << model.error().message;
        EXPECT_NE((*model)->compute_identity(), whole) << name;
    }
    for (const auto& [from, to] :
         {std::pair{"\"rope_theta\":10000.0", "\"rope_theta\":10001.0"},
          std::pair{"\"rms_norm_eps\":9", "\"rms_norm_eps\":8"}, std::pair{"_bits\":8", "_bits\":16"}}) {
        Parts changed = parts;
        changed.replace(from, to);
        const auto model = load(changed);
        ASSERT_TRUE(model.ok()) << to << ": " << model.error().message;
        EXPECT_NE((*model)->compute_identity(), whole) << to;
        EXPECT_EQ((*load_model(path_, compute::ActivationBits::k8))->compute_identity() == whole,
                  std::string(from) == "_bits\":8");
    }
}

TEST_F(ModelFileTest, matrices_may_be_plain_floats) {
    for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kBF16}) {
        SynthShape shape = small();
        shape.second_type = type;
        const auto model = make(shape);
        EXPECT_EQ(model->spec().layer[0].wv.type, WeightType::kW16);
        const std::vector<float> logits = logits_of(*model, "auto"), want = logits_of(*model, "reference");
        EXPECT_EQ(std::memcmp(logits.data(), want.data(), want.size() * sizeof(float)), 0);
    }
}

struct Hostile {
    const char* want;  // part of the message
    ErrorCode code;
    std::function<void(Parts&)> change;
};

void expect_refused(const Result<std::unique_ptr<Model>>& outcome, const Hostile& hostile) {
    ASSERT_FALSE(outcome.ok()) << hostile.want;
    EXPECT_EQ(outcome.error().code, hostile.code) << outcome.error().message;
    EXPECT_NE(outcome.error().message.find(hostile.want), std::string::npos) << outcome.error().message;
}

constexpr const char* kUp = "model.layers.0.mlp.up_proj.weight";
constexpr const char* kNorm = "model.norm.weight";

TEST_F(ModelFileTest, refuses_tensors_that_are_wrong) {
    make(small());
    const Parts parts(path_);
    const auto scale = [](uint8_t high) {
        return [high](Parts& p) { p.tensors[kUp].bytes[134 * 3 + 1] = high; };  // of block 3
    };
    const auto shape = [](const char* name, const std::vector<uint64_t>& shape) {
        return [name, shape](Parts& p) { p.tensors[name].shape = shape; };
    };
    const Hostile cases[] = {
        {"finite scales, got another in block 3", ErrorCode::kInvalidArgument, scale(0x7E)},  // NaN
        {"w_up: want finite", ErrorCode::kInvalidArgument, scale(0xFC)},                      // -infinity
        {"output_norm: want finite", ErrorCode::kInvalidArgument,
         [](Parts& p) { p.tensors[kNorm].bytes[7] = 0x7F, p.tensors[kNorm].bytes[6] = 0xC0; }},
        {"want shape [256, 256], file has [128, 512]", ErrorCode::kMismatch, shape(kUp, {128, 2, 134})},
        {"file has [256, 1, 67, 2]", ErrorCode::kMismatch, shape(kUp, {256, 1, 67, 2})},
        {"file has [256, 134]", ErrorCode::kMismatch, shape(kUp, {256, 134})},
        {"file has [0]", ErrorCode::kMismatch,
         [](Parts& p) { p.tensors[kNorm].shape = {0}, p.tensors[kNorm].bytes.clear(); }},
        {"file has []", ErrorCode::kMismatch,
         [](Parts& p) { p.tensors[kNorm].shape = {}, p.tensors[kNorm].bytes.resize(4); }},
        {"is I8, supported is", ErrorCode::kUnsupported,
         [](Parts& p) {
             p.tensors[kUp] = {DType::kI8, {256, 256}, Bytes(256 * 256)};
         }},
        {"is F16, supported is F32", ErrorCode::kUnsupported,
         [](Parts& p) {
             p.tensors[kNorm] = {DType::kF16, {256}, Bytes(512)};
         }},
        {"'model.layers.0.mlp.up_proj.weight' is missing", ErrorCode::kNotFound,
         [](Parts& p) { p.tensors.erase(kUp); }},
        {"'model.layers.0.self_attn.q_proj.bias' has no place", ErrorCode::kUnsupported,
         [](Parts& p) {
             p.tensors["model.layers.0.self_attn.q_proj.bias"] = {DType::kF32, {256}, Bytes(1024)};
         }},
        {"'lm_head.weight' is there", ErrorCode::kMismatch,
         [](Parts& p) { p.tensors["lm_head.weight"] = p.tensors["model.embed_tokens.weight"]; }},
        {"'lm_head.weight' is missing", ErrorCode::kMismatch,
         [](Parts& p) { p.replace("\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false"); }},
    };
    for (const Hostile& hostile : cases) {
        Parts changed = parts;
        hostile.change(changed);
        expect_refused(load(changed), hostile);
    }
}

TEST_F(ModelFileTest, refuses_configs_that_are_wrong) {
    make(small());
    const Parts parts(path_);
    const auto swap = [](const char* from, const char* to) { return [from, to](Parts& p) { p.replace(from, to); }; };
    const auto metadata = [](const char* key, const char* value) {
        return [key, value](Parts& p) { p.metadata[key] = value; };
    };
    const auto erase = [](const char* key) { return [key](Parts& p) { p.metadata.erase(key); }; };
    const Hostile cases[] = {
        {"no metadata format", ErrorCode::kNotFound, erase("format")},
        {"'driftwood actor image', supported is 'driftwood model'", ErrorCode::kUnsupported,
         metadata("format", "driftwood actor image")},
        {"'2', supported is '1'", ErrorCode::kUnsupported, metadata("format_version", "2")},
        {"'Q3X', supported is 'Q4S'", ErrorCode::kUnsupported, metadata("weight_blocks", "Q3X")},
        {"no metadata config", ErrorCode::kNotFound, erase("config")},
        {"no JSON object", ErrorCode::kCorrupt, metadata("config", "[1]")},
        {"no JSON object", ErrorCode::kCorrupt, metadata("config", "{\"hidden_size\":1e999}")},
        {"'hidden_size' comes twice", ErrorCode::kCorrupt, swap("{", "{\"hidden_size\":256,")},
        {"'model_type' is 'mamba'", ErrorCode::kUnsupported, swap("\"llama\"", "\"mamba\"")},
        {"'vocab_size' is missing", ErrorCode::kNotFound, swap(",\"vocab_size\":512", "")},
        {"'hidden_size': want an integer", ErrorCode::kMismatch, swap("\"hidden_size\":256", "\"hidden_size\":-256")},
        {"'hidden_size': want an integer", ErrorCode::kMismatch, swap("\"hidden_size\":256", "\"hidden_size\":2e2")},
        {"'hidden_size': 4294967296", ErrorCode::kLimit, swap("\"hidden_size\":256", "\"hidden_size\":4294967296")},
        {"want shape [512, 255]", ErrorCode::kMismatch, swap("\"hidden_size\":256", "\"hidden_size\":255")},
        {"heads of 18446744065119617025", ErrorCode::kLimit,
         [](Parts& p) {
             p.replace("\"num_attention_heads\":4", "\"num_attention_heads\":4294967295");
             p.replace("\"head_dim\":64", "\"head_dim\":4294967295");
         }},
        {"'model.layers.1.input_layernorm.weight' is missing", ErrorCode::kNotFound,
         swap("\"num_hidden_layers\":1", "\"num_hidden_layers\":4294967295")},
        {"layers: want 1..1024", ErrorCode::kInvalidArgument,
         [](Parts& p) {
             p.replace("\"num_hidden_layers\":1", "\"num_hidden_layers\":0");
             std::erase_if(p.tensors, [](const auto& tensor) { return tensor.first.starts_with("model.layers."); });
         }},
        {"context: want 1..", ErrorCode::kInvalidArgument,
         swap("\"max_position_embeddings\":1024", "\"max_position_embeddings\":0")},
        {"rope_theta: want 1..", ErrorCode::kInvalidArgument, swap("\"rope_theta\":10000.0", "\"rope_theta\":0.5")},
        {"norm_eps: want", ErrorCode::kInvalidArgument,
         [](Parts& p) { p.replace("\"rms_norm_eps\":", "\"rms_norm_eps\":-"); }},
        {"'rope_scaling'", ErrorCode::kUnsupported, swap("{", "{\"rope_scaling\":{\"factor\":2},")},
        {"'attention_bias'", ErrorCode::kUnsupported, swap("{", "{\"attention_bias\":true,")},
        {"'hidden_act' is 'gelu'", ErrorCode::kUnsupported, swap("{", "{\"hidden_act\":\"gelu\",")},
        {"'sliding_window' is not known", ErrorCode::kUnsupported, swap("{", "{\"sliding_window\":4,")},
        {"want 8 or 16", ErrorCode::kUnsupported, swap("_bits\":8", "_bits\":12")},
        {"512 tokens, but 511 embeddings", ErrorCode::kMismatch,
         [](Parts& p) {
             p.replace("\"vocab_size\":512", "\"vocab_size\":511");
             p.tensors["model.embed_tokens.weight"].shape[0] = 511;
             p.tensors["model.embed_tokens.weight"].bytes.resize(511 * 134);
         }},
    };
    for (const Hostile& hostile : cases) {
        Parts changed = parts;
        hostile.change(changed);
        expect_refused(load(changed), hostile);
    }
    Parts deep = parts;
    deep.metadata["config"] = std::string(1 << 20, '[');
    expect_refused(load(deep), {"no JSON object", ErrorCode::kCorrupt, nullptr});
}

TEST_F(ModelFileTest, refuses_vocabularies_that_are_wrong) {
    make(small());
    const Parts parts(path_);
    const auto with = [](const std::function<void(file::Encoder&)>& write) {
        return [write](Parts& p) {
            file::Encoder encoder;
            encoder.begin_record("VOCB", 1);
            write(encoder);
            encoder.end_record();
            auto& tensor = p.tensors["tokenizer.vocabulary"];
            tensor.bytes = encoder.take();
            tensor.shape = {tensor.bytes.size()};
        };
    };
    const auto list = [](file::Encoder& out, const std::vector<std::string>& tokens, uint32_t bos = 0) {
        out.str("gpt-2");
        out.u64(tokens.size());
        for (const std::string& token : tokens) {
            out.u8(1);
            out.str(token);
        }
        out.u64(0);
        for (int i = 0; i < 4; ++i) {
            out.u8(i == 0 ? 1 : 0);
            out.u32(bos);
        }
    };
    const Hostile cases[] = {
        {"tokenizer.vocabulary", ErrorCode::kNotFound, [](Parts& p) { p.tensors.erase("tokenizer.vocabulary"); }},
        {"tokenizer.vocabulary: want U8", ErrorCode::kMismatch,
         [](Parts& p) {
             p.tensors["tokenizer.vocabulary"] = {DType::kF32, {1}, Bytes(4)};
         }},
        {"'klingon', supported are", ErrorCode::kUnsupported, with([](file::Encoder& out) {
             out.str("klingon");
             for (int i = 0; i < 2; ++i) out.u64(0);
             for (int i = 0; i < 4; ++i) out.u8(0), out.u32(0);
         })},
        {"tokenizer.vocabulary", ErrorCode::kCorrupt,
         with([](file::Encoder& out) { out.str("gpt-2"), out.u64(uint64_t{1} << 60); })},
        {"token 1 comes twice", ErrorCode::kCorrupt, with([&](file::Encoder& out) {
             list(out, {"a", "a"});
         })},
        {"bos token 2 of 2", ErrorCode::kCorrupt, with([&](file::Encoder& out) {
             list(out, {"a", "b"}, 2);
         })},
        {"2 tokens, but 512", ErrorCode::kMismatch, with([&](file::Encoder& out) {
             list(out, {"a", "b"});
         })},
        {"tokenizer.vocabulary", ErrorCode::kCorrupt, with([&](file::Encoder& out) {
             list(out, {"a", "b"}), out.u8(0);
         })},
    };
    for (const Hostile& hostile : cases) {
        Parts changed = parts;
        hostile.change(changed);
        expect_refused(load(changed), hostile);
    }
    // Any byte, with hashes that are right: an error or a model, never an end of the process.
    const size_t size = parts.tensors.at("tokenizer.vocabulary").bytes.size();
    for (size_t at = 0; at < size; at += size / 97) {
        Parts changed = parts;
        changed.tensors["tokenizer.vocabulary"].bytes[at] ^= 0x81;
        const auto outcome = load(changed);
        EXPECT_TRUE(outcome.ok() || !outcome.error().message.empty());
    }
}

TEST_F(ModelFileTest, refuses_a_file_that_is_cut_short_or_damaged) {
    make(small());
    const Bytes whole = file::read_all(path_);
    for (const size_t length : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, size_t{65536}, size_t{70000},
                                whole.size() / 2, whole.size() - 32, whole.size() - 1}) {
        file::write_all(path_, std::span(whole).first(length));
        const auto outcome = load_model(path_);
        ASSERT_FALSE(outcome.ok()) << length;
        EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt) << outcome.error().message;
    }
    for (size_t at = 0; at < whole.size(); at += whole.size() / 61) {
        Bytes damaged = whole;
        damaged[at] ^= 0x10;
        file::write_all(path_, damaged);
        EXPECT_FALSE(load_model(path_).ok()) << "byte " << at;
    }
    Bytes longer = whole;
    longer.push_back(0);
    file::write_all(path_, longer);
    EXPECT_FALSE(load_model(path_).ok());
    EXPECT_NE(load_model(directory_.path()).error().message.find("not a regular file"), std::string::npos);
}

TEST_F(ModelFileTest, synth_says_which_types_a_format_has) {
    EXPECT_NE(synth_gguf(small(), 1).error().message.find("Q4S: GGUF has no such type"), std::string::npos);
    SynthShape shape = small();
    shape.type = WeightType::kQ4_K;
    EXPECT_NE(synth_model_file(shape, 1).error().message.find("Q4_K: a model file of ours has no such"),
              std::string::npos);
    shape.type = WeightType::kQ4S;
    shape.d_model = 288;
    EXPECT_NE(synth_model_file(shape, 1).error().message.find("Q4S: rows of 288"), std::string::npos);
}

}  // namespace
}  // namespace driftwood::model
