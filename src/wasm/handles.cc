#include "wasm/handles.h"

namespace driftwood::wasm {

std::string message_of(const wasmtime_error_t* failure) {
    wasm_name_t bytes;
    wasmtime_error_message(failure, &bytes);
    std::string text(view(bytes));
    wasm_byte_vec_delete(&bytes);
    return text;
}

}  // namespace driftwood::wasm
