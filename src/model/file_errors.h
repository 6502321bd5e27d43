// FileErrors: says which file an error is about.
#pragma once

#include <string>

#include "base/result.h"

namespace driftwood::model {

struct FileErrors {
    std::string operation;  // "model.gguf"
    std::string file;

    // "[model.gguf] FILE: " + problem.
    Error operator()(ErrorCode code, const std::string& problem) const {
        return error(code, "[" + operation + "] " + file + ": " + problem);
    }
};

}  // namespace driftwood::model
