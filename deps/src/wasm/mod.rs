//! Inspection and rewriting of guest modules.

mod facts;
mod refuse;
mod report;
mod rewrite;

use crate::abi::{bytes, check, give, guard, Buf};

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_wasm_inspect(module: *const u8, len: usize, report: *mut Buf, error: *mut Buf) -> i32 {
    guard(error, || {
        let (facts, refusals) = refuse::judge(bytes(module, len)?)?;
        give(report, report::report(&facts, &refusals).to_string().into_bytes())
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
