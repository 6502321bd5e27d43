#include "base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace driftwood {

std::string_view error_code_name(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument: return "invalid_argument";
        case ErrorCode::kNotFound: return "not_found";
        case ErrorCode::kAlreadyExists: return "already_exists";
        case ErrorCode::kCorrupt: return "corrupt";
        case ErrorCode::kMismatch: return "mismatch";
        case ErrorCode::kUnsupported: return "unsupported";
        case ErrorCode::kLimit: return "limit";
        case ErrorCode::kIo: return "io";
        case ErrorCode::kTrap: return "trap";
        case ErrorCode::kDeadline: return "deadline";
        case ErrorCode::kNotFinite: return "not_finite";
        case ErrorCode::kInternal: return "internal";
    }
    return "unknown";
}

Error errno_error(std::string_view operation, std::string_view thing) {
    const int saved = errno;
    const ErrorCode code = saved == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return Error{code, "[" + std::string(operation) + "] " + std::string(thing) + ": " + std::strerror(saved)};
}

void check_failed(std::string_view what, std::string_view detail, const char* file, int line) {
    std::fprintf(stderr, "%s:%d: %.*s%s%.*s\n", file, line, static_cast<int>(what.size()), what.data(),
                 detail.empty() ? "" : ": ", static_cast<int>(detail.size()), detail.data());
    std::abort();
}

}  // namespace driftwood
