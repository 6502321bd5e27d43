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
    pub fn sleep(ns: i64) -> i64;
    pub fn model_info(info: *mut ModelInfo, info_size: u32) -> i32;
    pub fn tokenize(text: *const u8, text_length: u32, out: *mut u32, capacity: u32) -> i64;
    pub fn detokenize(tokens: *const u32, count: u32, out: *mut u8, capacity: u32) -> i64;
    pub fn token_ends_turn(token: u32) -> i32;
    pub fn session_open() -> i64;
    pub fn session_close(session: i64) -> i32;
    pub fn session_append(session: i64, role: *const u8, role_length: u32, text: *const u8, text_length: u32) -> i64;
    pub fn session_tokens(session: i64) -> i64;
    pub fn session_fork(session: i64) -> i64;
    pub fn session_rewind(session: i64, messages: u32) -> i32;
    pub fn session_rewind_tokens(session: i64, tokens: u32) -> i32;
    pub fn prefill(session: i64) -> i64;
    pub fn generate(session: i64, options: *const GenerateOptions, options_size: u32) -> i64;
    pub fn next(stream: i64, out: *mut u8, capacity: u32) -> i64;
    pub fn stream_close(stream: i64) -> i32;
    pub fn session_answer(session: i64) -> i64;
    pub fn decode(session: i64, tokens: *const u32, count: u32, logits: *mut f32, capacity: u32) -> i64;
    pub fn gemm(gemm: *const Gemm, gemm_size: u32) -> i64;
    pub fn rows(rows: *const Rows, rows_size: u32) -> i64;
}

#[repr(C)]
#[derive(Default)]
pub struct ModelInfo {
    pub vocab: u32,
    pub context: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct Gemm {
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub lda: u32,
    pub ldb: u32,
    pub ldc: u32,
    pub a_type: u32,
    pub b_type: u32,
    pub c_type: u32,
    pub flags: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Default)]
pub struct Rows {
    pub kind: u32,
    pub x: u32,
    pub y: u32,
    pub out: u32,
    pub rows: u32,
    pub cols: u32,
    pub ldx: u32,
    pub ldy: u32,
    pub ldout: u32,
    pub eps: f32,
}

pub const F32: u32 = 0;
pub const F16: u32 = 1;
pub const BF16: u32 = 2;
pub const GEMM_ACCUMULATE: u32 = 1;
pub const GEMM_TRANSPOSE_A: u32 = 2;
pub const GEMM_TRANSPOSE_B: u32 = 4;
pub const ROWS_ADD: u32 = 0;
pub const ROWS_MULTIPLY: u32 = 1;
pub const ROWS_SILU: u32 = 2;
pub const ROWS_SILU_MULTIPLY: u32 = 3;
pub const ROWS_SOFTMAX: u32 = 4;
pub const ROWS_RMS_NORM: u32 = 5;

/// A length that fits: linear memory of wasm32 has no slice longer than this.
pub fn length_of<T>(values: &[T]) -> u32 {
    values.len() as u32
}

/// The size of a struct, as it is passed with it.
pub fn size_of<T>() -> u32 {
    std::mem::size_of::<T>() as u32
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
