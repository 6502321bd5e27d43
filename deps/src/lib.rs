//! Every Rust library that Driftwood uses, in one static archive behind a thin C interface.
//!
//! `include/driftwood_deps.h` is the interface and its documentation; each file here serves one section of it.
//! Every exported function runs inside `abi::guard`, so that neither a panic nor an error crosses into C++ as anything
//! but a status and a message.

extern crate wasmtime_c_api; // its C symbols ride in the same archive

mod abi;
mod grammar;
mod hash;
mod table;
mod template;
mod tokenizer;
mod wasm;
