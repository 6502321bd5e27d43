#include "wasm/host_calls.h"

#include <algorithm>

#include "wasm/marshal.h"

namespace driftwood::wasm {
namespace {

int32_t abi_version(Guest&) { return DRIFTWOOD_ABI_VERSION; }

int32_t log(Guest& guest, int32_t level, std::string_view line) {
    if (level < DRIFTWOOD_LOG_DEBUG || level > DRIFTWOOD_LOG_ERROR) return -DRIFTWOOD_EINVAL;
    if (line.size() > kMaxLogBytes) return -DRIFTWOOD_EOVERFLOW;
    guest.host.log(level, line);
    return 0;
}

int32_t random(Guest& guest, std::span<uint8_t> out) {
    if (out.size() > kMaxRandomBytes) return -DRIFTWOOD_EOVERFLOW;
    guest.host.random(out);
    return 0;
}

int32_t model_info(Guest& guest, OutStruct<driftwood_model_info> out) { return out.set(guest.host.model_info()); }

template <auto F, When kWhen>
constexpr HostCall row(std::string_view name) {
    return host_call<F, kWhen>("driftwood", name);
}

constexpr When kAlways = When::kAlways;
constexpr When kInTurn = When::kInTurn;

constexpr HostCall kCalls[] = {
    row<&abi_version, kAlways>("abi_version"),
    row<&log, kAlways>("log"),
    row<&GuestHost::now_ns, kAlways>("now"),
    row<&random, kAlways>("random"),
    row<&GuestHost::reply, kInTurn>("reply"),
    row<&GuestHost::receive, kInTurn>("receive"),
    row<&GuestHost::cancel, kInTurn>("cancel"),
    row<&GuestHost::sleep, kInTurn>("sleep"),
    row<&model_info, kInTurn>("model_info"),
    row<&GuestHost::tokenize, kInTurn>("tokenize"),
    row<&GuestHost::detokenize, kInTurn>("detokenize"),
    row<&GuestHost::token_ends_turn, kInTurn>("token_ends_turn"),
    row<&GuestHost::session_open, kInTurn>("session_open"),
    row<&GuestHost::session_close, kInTurn>("session_close"),
    row<&GuestHost::session_append, kInTurn>("session_append"),
    row<&GuestHost::session_tokens, kInTurn>("session_tokens"),
    row<&GuestHost::session_fork, kInTurn>("session_fork"),
    row<&GuestHost::session_rewind, kInTurn>("session_rewind"),
    row<&GuestHost::session_rewind_tokens, kInTurn>("session_rewind_tokens"),
    row<&GuestHost::prefill, kInTurn>("prefill"),
    row<&GuestHost::generate, kInTurn>("generate"),
    row<&GuestHost::next, kInTurn>("next"),
    row<&GuestHost::stream_close, kInTurn>("stream_close"),
    row<&GuestHost::session_answer, kInTurn>("session_answer"),
    row<&GuestHost::decode, kInTurn>("decode"),
    row<&GuestHost::gemm, kInTurn>("gemm"),
    row<&GuestHost::rows, kInTurn>("rows"),
};

wasm_valkind_t value_kind(Slot slot) { return slot == Slot::kI64 ? WASM_I64 : WASM_I32; }

std::string kind_name(wasm_valkind_t kind) {
    switch (kind) {
        case WASM_I32: return "i32";
        case WASM_I64: return "i64";
        case WASM_F32: return "f32";
        case WASM_F64: return "f64";
        case WASM_FUNCREF: return "funcref";
        default: return "another type";
    }
}

std::string kinds_text(const wasm_valtype_vec_t* types) {
    std::string text;
    for (size_t i = 0; i < types->size; i++) {
        if (i != 0) text += ", ";
        text += kind_name(wasm_valtype_kind(types->data[i]));
    }
    return text;
}

}  // namespace

std::span<const HostCall> driftwood_calls() { return kCalls; }

std::span<const HostCall> host_calls() {
    static const std::vector<HostCall> all = [] {
        std::vector<HostCall> calls(driftwood_calls().begin(), driftwood_calls().end());
        calls.insert(calls.end(), wasi_calls().begin(), wasi_calls().end());
        return calls;
    }();
    return all;
}

const HostCall* find_host_call(std::string_view module, std::string_view name) {
    const auto calls = host_calls();
    const auto found = std::find_if(calls.begin(), calls.end(),
                                    [&](const HostCall& call) { return call.module == module && call.name == name; });
    return found == calls.end() ? nullptr : &*found;
}

FuncTypePtr function_type(const HostCall& call) {
    wasm_valtype_vec_t parameters;
    wasm_valtype_vec_new_uninitialized(&parameters, call.parameters.size());
    for (size_t i = 0; i < call.parameters.size(); i++) {
        parameters.data[i] = wasm_valtype_new(value_kind(call.parameters[i]));
    }
    wasm_valtype_vec_t results;
    wasm_valtype_vec_new_uninitialized(&results, call.result ? 1 : 0);
    if (call.result) results.data[0] = wasm_valtype_new(value_kind(*call.result));
    return FuncTypePtr(wasm_functype_new(&parameters, &results));  // takes both
}

std::string signature_text(const HostCall& call) { return signature_text(function_type(call).get()); }

std::string signature_text(const wasm_functype_t* type) {
    return "(" + kinds_text(wasm_functype_params(type)) + ") -> (" + kinds_text(wasm_functype_results(type)) + ")";
}

}  // namespace driftwood::wasm
