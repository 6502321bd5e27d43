//! `include/driftwood/guest.h` for Rust: the same names, types and order. Nothing here is safer than there; what makes
//! it safe is in the other files. `sdk/rust/tests/abi_test.py` compares the two.

use crate::session::GenerateOptions;

#[link(wasm_import_module = "driftwood")]
extern "C" {
    pub fn abi_version() -> i32;
    pub fn log(level: i32, text: *const u8, length: u32) -> i32;
    pub fn now() -> i64;
    pub fn random(out: *mut u8, length: u32) -> i32;
    pub fn reply(data: *const u8, length: u32, last: u32) -> i32;
    pub fn receive(out: *mut u8, capacity: u32) -> i64;
    pub fn cancel(op: i64) -> i32;
    pub fn session_open() -> i64;
    pub fn session_close(session: i64) -> i32;
    pub fn session_append(session: i64, role: *const u8, role_length: u32, text: *const u8, text_length: u32) -> i64;
    pub fn session_tokens(session: i64) -> i64;
    pub fn session_fork(session: i64) -> i64;
    pub fn session_rewind(session: i64, messages: u32) -> i32;
    pub fn prefill(session: i64) -> i64;
    pub fn generate(session: i64, options: *const GenerateOptions, options_size: u32) -> i64;
    pub fn next(stream: i64, out: *mut u8, capacity: u32) -> i64;
    pub fn stream_close(stream: i64) -> i32;
}

/// A length that fits: linear memory of wasm32 has no slice longer than this.
pub fn length_of(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

#[cfg(target_os = "wasi")]
extern "C" {
    fn __wasm_call_ctors();
}

/// What the export `_initialize` of a WASI reactor does. That the linker sees it called by name also keeps it from
/// running constructors around every single export, which is what it does to modules that do not.
#[cfg(target_os = "wasi")]
pub fn initialize() {
    // SAFETY: the runtime calls `_initialize` once, before anything else of this module runs.
    unsafe { __wasm_call_ctors() }
}
