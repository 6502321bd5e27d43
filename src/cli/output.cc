#include "cli/output.h"

#include <cstdio>

namespace driftwood::cli {

int report(const Error& error, Format format) {
    if (format == Format::kJson) {
        print_json({{"error", {{"code", error_code_name(error.code)}, {"message", error.message}}}});
    } else {
        std::fprintf(stderr, "driftwood: %s\n", printable(error.message).c_str());
    }
    return 1;
}

void note_cache(const wasm::Module& module) {
    const std::string& problem = module.compile_report().cache_problem;
    if (problem.empty()) return;
    std::fprintf(stderr, "driftwood: the guest was compiled anew: %s\n", printable(problem).c_str());
}

// Bytes that are not UTF-8 become U+FFFD: whatever a guest or a file says, the document stays valid.
void print_json(const Json& json) {
    std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    std::fflush(stdout);
}

std::string human_bytes(uint64_t bytes) {
    char text[32];
    if (bytes < 1000) {
        std::snprintf(text, sizeof text, "%llu B", static_cast<unsigned long long>(bytes));
    } else if (bytes < 1000 * 1000) {
        std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
    } else if (bytes < 1000ull * 1000 * 1000) {
        std::snprintf(text, sizeof text, "%.2f MB", static_cast<double>(bytes) / 1e6);
    } else {
        std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) / 1e9);
    }
    return text;
}

std::string human_ms(double ms) {
    char text[32];
    std::snprintf(text, sizeof text, ms < 10 ? "%.2f ms" : "%.1f ms", ms);
    return text;
}

double to_ms(int64_t ns) { return static_cast<double>(ns) / 1e6; }

std::string printable(std::string_view text) {
    std::string out(text);
    for (size_t i = 0; i < out.size(); ++i) {
        const auto byte = static_cast<unsigned char>(out[i]);
        if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) out[i] = '?';
        // U+0080 to U+009F: C2 80 to C2 9F in UTF-8.
        const auto next = static_cast<unsigned char>(i + 1 < out.size() ? out[i + 1] : 0);
        if (byte == 0xC2 && next >= 0x80 && next < 0xA0) out.replace(i, 2, "?");
    }
    return out;
}

}  // namespace driftwood::cli
