//! The shapes that cross into C++: statuses, byte spans in, owned buffers out, and the guard around every call.

use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

pub const OK: i32 = 0;
/// Why a call failed; the numbers are `dwd_status` of the header.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invalid = 1,
    Refused = 2,
    Panic = 3,
}

#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

pub type Outcome<T> = Result<T, Failure>;

pub fn invalid<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Failure { kind: Kind::Invalid, message: message.into() })
}

pub fn refused<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Failure { kind: Kind::Refused, message: message.into() })
}

/// Turns a library's error into an `Invalid` failure that says which step it came from.
pub fn because<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> Failure {
    move |e| Failure { kind: Kind::Invalid, message: format!("[{step}] {e}") }
}

/// An owned byte buffer: the parts of a `Vec<u8>`, given back through `dwd_buf_free`.
#[repr(C)]
pub struct Buf {
    data: *mut u8,
    len: usize,
    cap: usize,
}

impl Buf {
    const EMPTY: Buf = Buf { data: std::ptr::null_mut(), len: 0, cap: 0 };

    fn own(bytes: Vec<u8>) -> Buf {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Buf { data: bytes.as_mut_ptr(), len: bytes.len(), cap: bytes.capacity() }
    }
}

/// Writes `bytes` to the caller's buffer.
///
/// # Safety
/// `out` is null or points to a writable `dwd_buf`.
pub unsafe fn give(out: *mut Buf, bytes: Vec<u8>) -> Outcome<()> {
    put(out, Buf::own(bytes))
}

/// An owned array of token ids: the parts of a `Vec<u32>`, given back through `dwd_ids_free`.
#[repr(C)]
pub struct Ids {
    data: *mut u32,
    len: usize,
    cap: usize,
}

impl Ids {
    /// # Safety
    /// `out` is null or points to a writable `dwd_ids`.
    pub unsafe fn give(out: *mut Ids, ids: Vec<u32>) -> Outcome<()> {
        let mut ids = std::mem::ManuallyDrop::new(ids);
        put(out, Ids { data: ids.as_mut_ptr(), len: ids.len(), cap: ids.capacity() })
    }
}

/// Asked before work whose result would otherwise have nowhere to go.
pub fn check<T>(out: *const T) -> Outcome<()> {
    if out.is_null() {
        return invalid("[abi] an output pointer is NULL");
    }
    Ok(())
}

/// Writes one plain output.
///
/// # Safety
/// `out` is null or writable.
pub unsafe fn put<T>(out: *mut T, value: T) -> Outcome<()> {
    check(out)?;
    out.write(value);
    Ok(())
}

/// Borrows the caller's bytes for the length of the call.
///
/// # Safety
/// `data` points to `len` readable bytes that nobody writes during the call, or `len` is 0.
pub unsafe fn bytes<'a>(data: *const u8, len: usize) -> Outcome<&'a [u8]> {
    slice(data, len)
}

/// # Safety
/// As for `bytes`, with `len` counting elements.
pub unsafe fn slice<'a, T>(data: *const T, len: usize) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return invalid(format!("[abi] NULL with a length of {len}"));
    }
    Ok(std::slice::from_raw_parts(data, len))
}

/// # Safety
/// As for `bytes`.
pub unsafe fn text<'a>(what: &'static str, data: *const u8, len: usize) -> Outcome<&'a str> {
    std::str::from_utf8(bytes(data, len)?)
        .map_err(|e| Failure { kind: Kind::Invalid, message: format!("[abi] {what} is not UTF-8: {e}") })
}

/// Borrows a handle.
///
/// # Safety
/// `handle` is null or came from the matching `_new` and was not freed.
pub unsafe fn borrow<'a, T>(handle: *const T) -> Outcome<&'a T> {
    handle.as_ref().ok_or_else(|| Failure { kind: Kind::Invalid, message: "[abi] a handle is NULL".into() })
}

thread_local! {
    /// `Some` while this thread is inside `guard`: where the panic hook leaves its message.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic inside `guard` becomes an error's text; one outside (Wasmtime's own) is reported as before.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let kept = CAUGHT.with_borrow_mut(|slot| slot.as_mut().map(|text| *text = info.to_string()).is_some());
            if !kept {
                previous(info);
            }
        }));
    });
}

/// Runs one exported function: its status is returned, its message goes to `error` where that is not null.
pub fn guard(error: *mut Buf, body: impl FnOnce() -> Outcome<()>) -> i32 {
    install_hook();
    CAUGHT.set(Some(String::new()));
    // A body that panics has written no output: outputs are given last. Handles it may have touched are read-only or,
    // for a hasher, documented as lost.
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let caught = CAUGHT.take().unwrap_or_default();
    let failure = match outcome {
        Ok(Ok(())) => return OK,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            // Dropping a payload may itself panic; the payload of that panic is leaked, which ends the chain.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
            Failure { kind: Kind::Panic, message: format!("[panic] {caught}") }
        }
    };
    if !error.is_null() {
        // SAFETY: the header asks for a writable dwd_buf or NULL.
        unsafe { error.write(Buf::own(failure.message.into_bytes())) };
    }
    failure.kind as i32
}

/// # Safety
/// `buf` is null or was filled by this library and not changed since.
#[no_mangle]
pub unsafe extern "C" fn dwd_buf_free(buf: *mut Buf) {
    guard(std::ptr::null_mut(), || {
        if let Some(buf) = buf.as_mut() {
            let owned = std::mem::replace(buf, Buf::EMPTY);
            if !owned.data.is_null() {
                drop(Vec::from_raw_parts(owned.data, owned.len, owned.cap));
            }
        }
        Ok(())
    });
}

/// # Safety
/// `ids` is null or was filled by this library and not changed since.
#[no_mangle]
pub unsafe extern "C" fn dwd_ids_free(ids: *mut Ids) {
    guard(std::ptr::null_mut(), || {
        if let Some(ids) = ids.as_mut() {
            let owned = std::mem::replace(ids, Ids { data: std::ptr::null_mut(), len: 0, cap: 0 });
            if !owned.data.is_null() {
                drop(Vec::from_raw_parts(owned.data, owned.len, owned.cap));
            }
        }
        Ok(())
    });
}

/// # Safety
/// `message` spans `len` bytes, `error` is null or writable.
#[no_mangle]
pub unsafe extern "C" fn dwd_test_panic(message: *const u8, len: usize, error: *mut Buf) -> i32 {
    guard(error, || panic!("{}", text("message", message, len)?))
}
