// How commands speak: people get sentences, scripts get one JSON document on stdout.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "wasm/instance.h"

namespace driftwood::cli {

using Json = nlohmann::ordered_json;

enum class Format { kText, kJson };

// Prints the error ("driftwood: [operation] thing: …" on stderr, or {"error": …} on stdout) and returns exit code 1.
int report(const Error& error, Format format);

// A line on stderr when compiled guests could not be read from or put into the user's cache: it costs time only.
void note_cache(const wasm::Module& module);

void print_json(const Json& json);

std::string human_bytes(uint64_t bytes);  // "5.3 MB" (powers of ten)
std::string human_ms(double ms);          // "0.42 ms"
double to_ms(int64_t ns);

// Text that came from a file or a guest, safe for a terminal: control characters (C0 and C1) but tab and newline become
// '?'.
std::string printable(std::string_view text);

}  // namespace driftwood::cli
