//! BLAKE3.

use crate::abi::{borrow, bytes, check, guard, invalid, put, Buf, Outcome};
use std::ptr::null_mut;

unsafe fn write_digest(out: *mut u8, hash: blake3::Hash) -> Outcome<()> {
    if out.is_null() {
        return invalid("[blake3] the output is NULL");
    }
    std::ptr::copy_nonoverlapping(hash.as_bytes().as_ptr(), out, blake3::OUT_LEN);
    Ok(())
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_blake3(data: *const u8, len: usize, out: *mut u8) -> i32 {
    guard(null_mut(), || write_digest(out, blake3::hash(bytes(data, len)?)))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_blake3_new(out: *mut *mut blake3::Hasher, error: *mut Buf) -> i32 {
    guard(error, || {
        check(out)?;
        put(out, Box::into_raw(Box::new(blake3::Hasher::new())))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_blake3_update(hasher: *mut blake3::Hasher, data: *const u8, len: usize) -> i32 {
    guard(null_mut(), || {
        let Some(hasher) = hasher.as_mut() else {
            return invalid("[blake3] the hasher is NULL");
        };
        hasher.update(bytes(data, len)?);
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_blake3_finish(hasher: *const blake3::Hasher, out: *mut u8) -> i32 {
    guard(null_mut(), || write_digest(out, borrow(hasher)?.finalize()))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_blake3_free(hasher: *mut blake3::Hasher) {
    guard(null_mut(), || {
        if !hasher.is_null() {
            drop(Box::from_raw(hasher));
        }
        Ok(())
    });
}
