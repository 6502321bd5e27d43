// The parts of a model file, whatever its format, put together as a Model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "file/mapped_file.h"
#include "model/file_errors.h"
#include "model/llama_weights.h"
#include "model/model.h"
#include "model/vocabulary.h"

namespace driftwood::model {

struct ModelParts {
    std::string_view name;  // what the file calls itself; not used where it is empty or not UTF-8
    LlamaWeights weights;
    Vocabulary vocabulary;  // views, needed until the model is made
    std::optional<std::string_view> chat_template;
    std::optional<file::MappedFile> mapped;  // the bytes that the weights view; absent where somebody else has them
};

// kMismatch where vocabulary and embeddings differ in number; kCorrupt for a template that is not UTF-8; and what the
// tokenizer library refuses.
Result<std::unique_ptr<Model>> make_model(const FileErrors& errors, ModelParts parts);

// A file of ours (docs/model-format.md): model_file.cc.
Result<std::unique_ptr<Model>> load_model_file(const std::string& path,
                                               std::optional<compute::ActivationBits> activations);

}  // namespace driftwood::model
