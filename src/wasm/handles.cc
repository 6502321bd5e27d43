#include "wasm/handles.h"

#include <utility>

#include "wasm/limits.h"

namespace driftwood::wasm {
namespace {

// Wasmtime prints "error while executing at wasm backtrace: …", a blank line, and then "Caused by:" with the cause;
// what has no frames is only the cause.
std::string cause_of(std::string text) {
    while (!text.empty() && (text.back() == '\0' || text.back() == '\n')) text.pop_back();
    constexpr std::string_view kCaused = "Caused by:\n";
    if (const size_t at = text.find(kCaused); at != std::string::npos) text.erase(0, at + kCaused.size());
    text.erase(0, text.find_first_not_of(' '));
    return text;
}

std::string cause_of(const wasm_trap_t* trap) {
    wasm_message_t bytes;
    wasm_trap_message(trap, &bytes);
    std::string text(view(bytes));
    wasm_byte_vec_delete(&bytes);
    return cause_of(std::move(text));
}

// Takes the frames.
std::string frames_text(wasm_frame_vec_t frames) {
    std::string text;
    for (size_t i = 0; i < frames.size && i < kMaxTrapFrames; i++) {
        text += i == 0 ? "; at " : " < ";
        const wasm_name_t* name = wasmtime_frame_func_name(frames.data[i]);
        text += name != nullptr ? std::string(view(*name))
                                : "function " + std::to_string(wasm_frame_func_index(frames.data[i]));
    }
    if (frames.size > kMaxTrapFrames) text += " < … " + std::to_string(frames.size - kMaxTrapFrames) + " more";
    wasm_frame_vec_delete(&frames);
    return text;
}

std::string frames_of(const wasm_trap_t* trap) {
    wasm_frame_vec_t frames;
    wasm_trap_trace(trap, &frames);
    return frames_text(frames);
}

}  // namespace

std::string message_of(const wasmtime_error_t* failure) {
    wasm_name_t bytes;
    wasmtime_error_message(failure, &bytes);
    std::string text(view(bytes));
    wasm_byte_vec_delete(&bytes);
    return text;
}

Error host_error(std::string_view operation, const wasmtime_error_t* failure) {
    wasm_frame_vec_t frames;
    wasmtime_error_wasm_trace(failure, &frames);
    return error(ErrorCode::kInternal,
                 std::string(operation) + ": " + cause_of(message_of(failure)) + frames_text(frames));
}

Error trap_error(std::string_view operation, const wasm_trap_t* trap, uint32_t deadline_ms) {
    wasmtime_trap_code_t code = 0;
    if (wasmtime_trap_code(trap, &code) && code == WASMTIME_TRAP_CODE_INTERRUPT) {
        return error(ErrorCode::kDeadline, std::string(operation) + ": the turn took longer than its " +
                                               std::to_string(deadline_ms) + " ms" + frames_of(trap));
    }
    return error(ErrorCode::kTrap, std::string(operation) + ": " + cause_of(trap) + frames_of(trap));
}

}  // namespace driftwood::wasm
