//! Inspection and rewriting of guest modules.

mod facts;
mod refuse;
mod report;
mod rewrite;
mod source;

use crate::abi::{bytes, check, give, guard, slice, Buf};

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_wasm_inspect(module: *const u8, len: usize, report: *mut Buf, error: *mut Buf) -> i32 {
    guard(error, || {
        let module = bytes(module, len)?;
        let (facts, refusals) = refuse::judge(module)?;
        let features = if refusals.is_empty() { refuse::features_used(module) } else { Vec::new() };
        give(report, report::report(&facts, &features, &refusals).to_string().into_bytes())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_wasm_rewrite(
    module: *const u8,
    len: usize,
    rewritten: *mut Buf,
    birth: *mut Buf,
    facts: *mut Buf,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        check(rewritten)?;
        check(birth)?;
        check(facts)?;
        let result = rewrite::rewrite(bytes(module, len)?)?;
        give(rewritten, result.module)?;
        give(birth, result.birth)?;
        give(facts, result.facts.to_string().into_bytes())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_wasm_source(
    module: *const u8,
    len: usize,
    frames: *const source::CodePlace,
    count: usize,
    report: *mut Buf,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        let found = source::source(bytes(module, len)?, slice(frames, count)?)?;
        give(report, found.to_string().into_bytes())
    })
}
