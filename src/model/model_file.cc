#include "model/model_file.h"

#include <utility>

#include "base/utf8.h"
#include "file/encoding.h"
#include "model/loaded_model.h"

namespace driftwood::model {

namespace {

using compute::WeightType;
using file::DType;
using file::SectionReader;

constexpr const char* kFormatKey = "format";
constexpr const char* kVersionKey = "format_version";
constexpr const char* kNameKey = "model_name";
constexpr const char* kConfigKey = "config";
constexpr const char* kTemplateKey = "chat_template";
constexpr const char* kBlocksKey = "weight_blocks";  // the type that matrices of dtype U8 hold
constexpr const char* kVocabularyTensor = "tokenizer.vocabulary";
constexpr const char* kVocabularyTag = "VOCB";
constexpr uint32_t kVocabularyVersion = 1;

constexpr WeightType kBlocks = WeightType::kQ4S;

const compute::WeightFormat& format_of(WeightType type) { return compute::kWeightFormats[static_cast<size_t>(type)]; }

class SectionTensors final : public LlamaFile {
  public:
    SectionTensors(const SectionReader& reader, const FileErrors& errors) : reader_(reader), errors_(errors) {}

    const FileErrors& errors() const override { return errors_; }
    const LlamaNames& names() const override { return kHuggingFaceNames; }
    const char* matrix_types() const override { return "F32, F16, BF16, or Q4S as U8 [rows, columns / 256, 134]"; }
    std::vector<std::string_view> tensors() const override {
        std::vector<std::string_view> names;
        for (const auto& [name, info] : reader_.tensors()) {
            if (name != kVocabularyTensor) names.push_back(name);
        }
        return names;
    }
    std::optional<FileTensor> tensor(const std::string& name) const override {
        const file::TensorInfo* info = reader_.find(name);
        if (info == nullptr) return std::nullopt;
        FileTensor out{std::nullopt, std::string(file::dtype_name(info->dtype)), info->shape, reader_.bytes(*info)};
        switch (info->dtype) {
            case DType::kF32: out.type = WeightType::kF32; break;
            case DType::kF16: out.type = WeightType::kF16; break;
            case DType::kBF16: out.type = WeightType::kBF16; break;
            case DType::kU8:
                // Rows of blocks: the shape in values.
                if (out.shape.size() != 3 || out.shape[2] != format_of(kBlocks).bytes) break;
                out.type = kBlocks;
                out.shape = {info->shape[0], info->shape[1] * format_of(kBlocks).values};
                break;
            default: break;
        }
        return out;
    }

  private:
    const SectionReader& reader_;
    const FileErrors& errors_;
};

Result<std::string_view> text(file::Decoder& in) {
    DW_ASSIGN(const std::span<const uint8_t> raw, in.bytes());
    return std::string_view(reinterpret_cast<const char*>(raw.data()), raw.size());
}

Result<std::optional<uint64_t>> maybe_id(file::Decoder& in) {
    DW_ASSIGN(const uint8_t there, in.u8());
    DW_ASSIGN(const uint32_t id, in.u32());
    return there == 0 ? std::nullopt : std::optional<uint64_t>(id);
}

// Views into `bytes`.
Result<UncheckedVocabulary> decode_vocabulary(const std::string& path, std::span<const uint8_t> bytes) {
    file::Decoder whole(path + ": tensor " + kVocabularyTensor, bytes);
    DW_ASSIGN(auto record, whole.record(kVocabularyTag, kVocabularyVersion));
    DW_TRY(whole.finish());
    file::Decoder& in = record.second;
    UncheckedVocabulary out;
    DW_ASSIGN(out.pre, text(in));
    DW_ASSIGN(const uint64_t tokens, in.count(sizeof(uint8_t) + sizeof(uint64_t)));
    for (uint64_t i = 0; i < tokens; ++i) {
        DW_ASSIGN(const uint8_t kind, in.u8());
        out.kinds.push_back(kind);
        DW_ASSIGN(const std::string_view token, text(in));
        out.tokens.push_back(token);
    }
    DW_ASSIGN(const uint64_t merges, in.count(2 * sizeof(uint64_t)));
    for (uint64_t i = 0; i < merges; ++i) {
        DW_ASSIGN(const std::string_view left, text(in));
        DW_ASSIGN(const std::string_view right, text(in));
        out.merges.emplace_back(left, right);
    }
    for (auto* id : {&out.bos, &out.eos, &out.eot, &out.eom}) {
        DW_ASSIGN(*id, maybe_id(in));
    }
    DW_TRY(in.finish());
    return out;
}

// What this reader knows how to read.
Result<void> check_format(const SectionReader& reader, const FileErrors& errors) {
    for (const auto& [key, want] :
         {std::pair{kFormatKey, std::string(kModelFormat)}, std::pair{kVersionKey, std::string(kModelFormatVersion)},
          std::pair{kBlocksKey, std::string(format_of(kBlocks).name)}}) {
        DW_ASSIGN(const std::string got, reader.require_metadata(key));
        if (got != want) {
            return errors(ErrorCode::kUnsupported, "its metadata says that " + std::string(key) + " is '" +
                                                       got.substr(0, 80) + "', supported is '" + want + "'");
        }
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<Model>> load_model_file(const std::string& path,
                                               std::optional<compute::ActivationBits> activations) {
    const FileErrors errors{"model.file", path};
    DW_ASSIGN(SectionReader reader, SectionReader::open(path, SectionReader::Hashes::kRequired));
    DW_TRY(check_format(reader, errors));
    DW_TRY(reader.verify_all());
    DW_ASSIGN(const std::string config, reader.require_metadata(kConfigKey));
    DW_ASSIGN(LlamaConfig llama, read_config(errors, config));
    if (activations) llama.spec.activation_bits = *activations;
    const char* output = kHuggingFaceNames.output;
    if (llama.tied == (reader.find(output) != nullptr)) {
        return errors(ErrorCode::kMismatch, "tensor '" + std::string(output) + "' is " +
                                                (llama.tied ? "there" : "missing") +
                                                ", but config says 'tie_word_embeddings'" + (llama.tied ? "" : " no"));
    }
    ModelParts parts;
    DW_ASSIGN(parts.weights, read_weights(SectionTensors(reader, errors), std::move(llama.spec)));
    DW_ASSIGN(const auto vocabulary, reader.read(kVocabularyTensor, DType::kU8));
    DW_ASSIGN(UncheckedVocabulary unchecked, decode_vocabulary(path, vocabulary));
    DW_ASSIGN(parts.vocabulary, checked_vocabulary(errors, std::move(unchecked)));
    const auto metadata = reader.metadata();
    if (const auto name = metadata.find(kNameKey); name != metadata.end()) parts.name = name->second;
    if (const auto found = metadata.find(kTemplateKey); found != metadata.end()) parts.chat_template = found->second;
    // Zeros in the place of weights that were lost would be other answers without anybody noticing.
    DW_TRY(reader.check_intact());
    parts.mapped = std::move(reader).release();
    return make_model(errors, std::move(parts));
}

void put_model_head(file::SectionWriter& out, const ModelHead& head) {
    CHECK(head.tokens.size() == head.kinds.size());
    out.set_metadata(kFormatKey, kModelFormat);
    out.set_metadata(kVersionKey, kModelFormatVersion);
    out.set_metadata(kBlocksKey, format_of(kBlocks).name);
    out.set_metadata(kNameKey, head.name);
    out.set_metadata(kConfigKey, config_text(head.config));
    if (head.chat_template) out.set_metadata(kTemplateKey, *head.chat_template);
    file::Encoder encoder;
    encoder.begin_record(kVocabularyTag, kVocabularyVersion);
    encoder.str(head.pre_tokenizer);
    encoder.u64(head.tokens.size());
    for (size_t i = 0; i < head.tokens.size(); ++i) {
        encoder.u8(static_cast<uint8_t>(head.kinds[i]));
        encoder.str(head.tokens[i]);
    }
    encoder.u64(head.merges.size());
    for (const auto& [left, right] : head.merges) {
        encoder.str(left);
        encoder.str(right);
    }
    for (const auto& id : {head.bos, head.eos, head.eot, head.eom}) {
        encoder.u8(id ? 1 : 0);
        encoder.u32(id.value_or(0));
    }
    encoder.end_record();
    std::vector<uint8_t> bytes = encoder.take();
    const uint64_t size = bytes.size();
    out.add_owned(kVocabularyTensor, DType::kU8, {size}, std::move(bytes));
}

bool model_file_has(WeightType type) { return type == kBlocks || compute::is_plain_float(type); }

void put_matrix(file::SectionWriter& out, std::string name, WeightType type, uint32_t rows, uint32_t cols,
                file::SectionWriter::Fill fill) {
    if (type == kBlocks) {
        CHECK(compute::cols_fit(type, cols));
        out.add_made(std::move(name), DType::kU8, {rows, cols / format_of(type).values, format_of(type).bytes},
                     std::move(fill));
        return;
    }
    CHECK(compute::is_plain_float(type));
    const DType dtype = type == WeightType::kF32 ? DType::kF32 : type == WeightType::kF16 ? DType::kF16 : DType::kBF16;
    out.add_made(std::move(name), dtype, {rows, cols}, std::move(fill));
}

void put_vector(file::SectionWriter& out, std::string name, uint32_t count, file::SectionWriter::Fill fill) {
    out.add_made(std::move(name), DType::kF32, {count}, std::move(fill));
}

}  // namespace driftwood::model
