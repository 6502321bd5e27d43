//! Elements of tables as raw function references. Wasmtime's own C functions for this abort the process unless it is
//! built with a garbage collector, which guests do not get.

use crate::abi::{because, guard, invalid, Buf, Outcome};
use std::ffi::c_void;
use wasmtime_c_api::wasmtime::{Func, Ref, Table};
use wasmtime_c_api::WasmtimeStoreContextMut;

/// # Safety
/// `function` is null or was read from this store.
unsafe fn reference(store: &mut WasmtimeStoreContextMut<'_>, function: *mut c_void) -> Ref {
    Ref::Func(Func::from_raw(store, function))
}

fn function_of(store: &mut WasmtimeStoreContextMut<'_>, table: &Table, index: u64) -> Outcome<*mut c_void> {
    match table.get(&mut *store, index) {
        Some(Ref::Func(function)) => Ok(function.map_or(std::ptr::null_mut(), |f| f.to_raw(store))),
        Some(_) => invalid("[table.get] the table holds no functions"),
        None => invalid(format!("[table.get] element {index}: beyond the table's end")),
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_table_get(
    mut store: WasmtimeStoreContextMut<'_>,
    table: &Table,
    index: u64,
    function: &mut *mut c_void,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        *function = function_of(&mut store, table, index)?;
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_table_set(
    mut store: WasmtimeStoreContextMut<'_>,
    table: &Table,
    index: u64,
    function: *mut c_void,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        let value = reference(&mut store, function);
        table.set(store, index, value).map_err(because("table.set"))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_table_grow(
    store: WasmtimeStoreContextMut<'_>,
    table: &Table,
    delta: u64,
    error: *mut Buf,
) -> i32 {
    guard(error, || table.grow(store, delta, Ref::Func(None)).map(|_| ()).map_err(because("table.grow")))
}
