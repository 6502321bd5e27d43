// CHECK: an invariant of this program, on in release too. A failed CHECK is a bug and ends the process with its place.
// Bytes from a guest, a file or a socket never reach a CHECK: they get a Result.
#pragma once

#include <string_view>

namespace driftwood {

// Prints "file:line: condition: detail" to stderr and aborts.
[[noreturn]] void check_failed(std::string_view what, std::string_view detail = {}, const char* file = "",
                               int line = 0);

}  // namespace driftwood

#define CHECK(condition) \
    ((condition) ? static_cast<void>(0) : ::driftwood::check_failed("CHECK(" #condition ")", {}, __FILE__, __LINE__))
