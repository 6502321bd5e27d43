#include "wasm/trap.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "wasm/deps_buffer.h"
#include "wasm/limits.h"

namespace driftwood::wasm {
namespace {

// Wasmtime's own message is not asked for: it spells out every frame's name demangled and in full, and the guest
// chooses the names.
struct Known {
    wasmtime_trap_code_t code;
    TrapKind kind;
    std::string_view text;
};
constexpr Known kKnown[] = {
    {WASMTIME_TRAP_CODE_STACK_OVERFLOW, TrapKind::kStackOverflow, "call stack exhausted"},
    {WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS, TrapKind::kMemoryBounds, "out of bounds memory access"},
    {WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS, TrapKind::kTableBounds, "undefined element: out of bounds table access"},
    {WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL, TrapKind::kNullCall, "uninitialized element"},
    {WASMTIME_TRAP_CODE_BAD_SIGNATURE, TrapKind::kBadSignature, "indirect call type mismatch"},
    {WASMTIME_TRAP_CODE_INTEGER_OVERFLOW, TrapKind::kIntegerOverflow, "integer overflow"},
    {WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO, TrapKind::kDivideByZero, "integer divide by zero"},
    {WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER, TrapKind::kBadConversion, "invalid conversion to integer"},
    {WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED, TrapKind::kUnreachable, "`unreachable` instruction executed"},
    {WASMTIME_TRAP_CODE_INTERRUPT, TrapKind::kDeadline, "interrupt"},
    {WASMTIME_TRAP_CODE_OUT_OF_FUEL, TrapKind::kOutOfFuel, "all fuel consumed"},
};

TrapKind kind_of(const wasm_trap_t* trap) {
    wasmtime_trap_code_t code = 0;
    if (!wasmtime_trap_code(trap, &code)) return TrapKind::kOther;
    const auto* known =
        std::find_if(std::begin(kKnown), std::end(kKnown), [code](const Known& k) { return k.code == code; });
    return known == std::end(kKnown) ? TrapKind::kOther : known->kind;
}

std::string_view text_of(TrapKind kind) {
    const auto* known =
        std::find_if(std::begin(kKnown), std::end(kKnown), [kind](const Known& k) { return k.kind == kind; });
    return known == std::end(kKnown) ? "of another kind" : known->text;
}

// Takes the frames.
std::vector<dwd_code_place> places_of(wasm_frame_vec_t frames) {
    std::vector<dwd_code_place> places;
    for (size_t i = 0; i < frames.size && i < kMaxTrapFrames; i++) {
        const size_t offset = wasm_frame_func_offset(frames.data[i]);
        places.push_back(
            {wasm_frame_func_index(frames.data[i]), static_cast<uint32_t>(std::min<size_t>(offset, UINT32_MAX))});
    }
    wasm_frame_vec_delete(&frames);
    return places;
}

// The report comes from deps/, not from the guest. nlohmann throws; the caller catches.
std::vector<TrapFrame> read_frames(const nlohmann::json& report, std::span<const dwd_code_place> places) {
    std::vector<TrapFrame> frames;
    for (size_t i = 0; i < places.size(); i++) {
        for (const auto& entry : report.at(i)) {
            TrapFrame frame;
            frame.function = entry.at("function").is_null() ? "function " + std::to_string(places[i].function)
                                                            : entry.at("function").get<std::string>();
            if (!entry.at("file").is_null()) frame.file = entry.at("file");
            frame.line = entry.at("line");
            frame.column = entry.at("column");
            frames.push_back(std::move(frame));
        }
    }
    return frames;
}

std::vector<TrapFrame> frames_of(wasm_frame_vec_t wasm_frames, std::span<const uint8_t> module) {
    const auto places = places_of(wasm_frames);
    Buffer report;
    Buffer message;
    std::vector<TrapFrame> frames;
    if (dwd_wasm_source(module.data(), module.size(), places.data(), places.size(), report.out(), message.out()) ==
        DWD_OK) {
        try {
            return read_frames(nlohmann::json::parse(report.bytes()), places);
        } catch (const nlohmann::json::exception&) {  // a trap without names is still that trap
        }
    }
    for (const auto& place : places) {
        frames.push_back(
            {.function = "function " + std::to_string(place.function), .file = {}, .line = 0, .column = 0});
    }
    return frames;
}

std::string text_of(const std::vector<TrapFrame>& frames) {
    std::string text;
    for (const TrapFrame& frame : frames) {
        text += text.empty() ? "; at " : " < ";
        text += frame.function;
        if (!frame.file.empty()) text += " (" + frame.file + ":" + std::to_string(frame.line) + ")";
    }
    return text;
}

}  // namespace

Trap trap_of(const wasm_trap_t* trap, std::span<const uint8_t> module) {
    wasm_frame_vec_t frames;
    wasm_trap_trace(trap, &frames);
    return {.kind = kind_of(trap), .frames = frames_of(frames, module)};
}

Error host_error(std::string_view operation, std::string_view why, const wasmtime_error_t* failure,
                 std::span<const uint8_t> module) {
    wasm_frame_vec_t frames;
    wasmtime_error_wasm_trace(failure, &frames);
    return error(ErrorCode::kInternal,
                 std::string(operation) + ": " + std::string(why) + text_of(frames_of(frames, module)));
}

Error trap_error(std::string_view operation, const Trap& trap, const InstanceLimits& limits) {
    const std::string what(operation);
    const std::string where = text_of(trap.frames);
    if (trap.kind == TrapKind::kDeadline) {
        return error(ErrorCode::kDeadline, what + ": the turn took longer than its " +
                                               std::to_string(limits.turn_deadline_ms) + " ms" + where);
    }
    if (trap.kind == TrapKind::kOutOfFuel) {
        return error(ErrorCode::kDeadline,
                     what + ": the turn used up its " + std::to_string(limits.turn_fuel) + " units of fuel" + where);
    }
    return error(ErrorCode::kTrap, what + ": wasm trap: " + std::string(text_of(trap.kind)) + where);
}

}  // namespace driftwood::wasm
