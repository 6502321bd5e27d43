// A model file of our own: one safetensors file with everything in it (docs/model-format.md). It is there for weights
// that GGUF has no type for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compute/weights.h"
#include "file/section.h"
#include "model/config_json.h"
#include "model/vocabulary.h"

namespace driftwood::model {

inline constexpr const char* kModelFormat = "driftwood model";
inline constexpr const char* kModelFormatVersion = "1";

struct ModelHead {
    std::string name;
    LlamaConfig config;
    std::string pre_tokenizer;  // its name
    std::vector<std::string> tokens;
    std::vector<int32_t> kinds;                               // TokenKind of each
    std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
    std::optional<uint32_t> bos, eos, eot, eom;
    std::optional<std::string> chat_template;
};

// Everything but the weights.
void put_model_head(file::SectionWriter& out, const ModelHead& head);
// Whether a matrix may be of this type: F32, F16, BF16 or Q4S.
bool model_file_has(compute::WeightType type);
// `fill` makes the bytes when the file is written. Preconditions: model_file_has, cols_fit (weights.h).
void put_matrix(file::SectionWriter& out, std::string name, compute::WeightType type, uint32_t rows, uint32_t cols,
                file::SectionWriter::Fill fill);
void put_vector(file::SectionWriter& out, std::string name, uint32_t count, file::SectionWriter::Fill fill);  // in F32

}  // namespace driftwood::model
