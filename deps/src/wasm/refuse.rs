//! Which modules can be frozen, and why the others cannot, by name.
//!
//! What a frozen actor holds is its memory, mutable globals and tables. Whatever else of an instance can change, or can
//! be seen by someone else, has to be refused before it runs.

use super::facts::{const_offset, Facts};
use crate::abi::{Failure, Kind, Outcome};
use wasmparser::{DataKind, RefType, ValType, Validator, WasmFeatures};

/// The prefix of export names that the rewriter adds.
pub const RESERVED: &str = "__dw_";

const WASM_PAGE: u64 = 65536;

/// The engine's work grows with the square of how deep loops lie in each other: at some ten thousands, which fit into a
/// few kilobytes, it would compile for minutes.
const MAX_NESTED_LOOPS: usize = 250;

#[derive(Debug)]
pub struct Refusal {
    pub feature: String,
    pub why: String,
}

impl Refusal {
    fn new(feature: impl Into<String>, why: impl Into<String>) -> Refusal {
        Refusal { feature: feature.into(), why: why.into() }
    }
}

/// The proposals that guests may use: what the engine is configured with. Version 2.0 of the standard without
/// host references, plus tail calls and extended constant expressions.
pub fn guest_features() -> WasmFeatures {
    (WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST) - WasmFeatures::GC_TYPES
}

/// Everything wasmparser can read in a core module, to tell "not WebAssembly" from "not for us".
fn all_core_features() -> WasmFeatures {
    WasmFeatures::all() - WasmFeatures::COMPONENT_MODEL
}

pub fn validate(module: &[u8], features: WasmFeatures) -> wasmparser::Result<()> {
    Validator::new_with_features(features).validate_all(module).map(|_| ())
}

/// The proposals beyond the first version of WebAssembly that a valid module does not do without. One validation each.
pub fn features_used(module: &[u8]) -> Vec<&'static str> {
    const TABLE: &[(WasmFeatures, &str)] = &[
        (WasmFeatures::MUTABLE_GLOBAL, "mutable globals imported or exported"),
        (WasmFeatures::SATURATING_FLOAT_TO_INT, "saturating float to integer"),
        (WasmFeatures::SIGN_EXTENSION, "sign extension"),
        (WasmFeatures::MULTI_VALUE, "multi-value"),
        (WasmFeatures::BULK_MEMORY, "bulk memory"),
        (WasmFeatures::REFERENCE_TYPES, "reference types"),
        (WasmFeatures::SIMD, "SIMD"),
        (WasmFeatures::TAIL_CALL, "tail calls"),
        (WasmFeatures::EXTENDED_CONST, "extended constant expressions"),
    ];
    let needed = |(flag, _): &&(WasmFeatures, &str)| validate(module, guest_features() - *flag).is_err();
    TABLE.iter().filter(needed).map(|(_, name)| *name).collect()
}

fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure { kind: Kind::Invalid, message: format!("[wasm.validate] not a valid WebAssembly module: {error}") }
}

/// The proposal's name and why an actor cannot use it.
fn explain(feature: WasmFeatures) -> (&'static str, &'static str) {
    const TABLE: &[(WasmFeatures, &str, &str)] = &[
        (WasmFeatures::THREADS, "threads", "shared memory could change while it is being frozen"),
        (WasmFeatures::SHARED_EVERYTHING_THREADS, "threads", "shared state could change while it is being frozen"),
        (WasmFeatures::GC, "gc", "objects of the collector live outside linear memory and cannot be captured"),
        (WasmFeatures::GC_TYPES, "host references", "a reference to a host object means nothing in another process"),
        (WasmFeatures::FUNCTION_REFERENCES, "typed function references", "their values cannot be captured"),
        (WasmFeatures::EXCEPTIONS, "exceptions", "an exception in flight lives outside linear memory"),
        (WasmFeatures::LEGACY_EXCEPTIONS, "exceptions", "an exception in flight lives outside linear memory"),
        (WasmFeatures::STACK_SWITCHING, "stack switching", "a suspended stack lives outside linear memory"),
        (WasmFeatures::MEMORY64, "memory64", "guests have one 32-bit memory"),
        (WasmFeatures::MULTI_MEMORY, "multiple memories", "guests have exactly one memory"),
        (WasmFeatures::RELAXED_SIMD, "relaxed SIMD", "its results depend on the machine"),
        (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes", "guests have 64 KiB pages"),
        (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic", "the engine has it switched off"),
    ];
    let hit = TABLE.iter().find(|(flag, _, _)| feature.intersects(*flag));
    hit.map_or(("unsupported proposal", "the engine has it switched off"), |(_, name, why)| (name, why))
}

/// Fails if the bytes are no module at all; lists the proposals it uses that guests may not.
fn refused_proposals(module: &[u8]) -> Outcome<Vec<Refusal>> {
    let mut refusals: Vec<Refusal> = Vec::new();
    let mut features = guest_features();
    loop {
        let Err(error) = validate(module, features) else { return Ok(refusals) };
        match error.missing_wasm_feature() {
            Some(missing) if !features.contains(missing) => {
                let (name, why) = explain(missing);
                if !refusals.iter().any(|r| r.feature == name) {
                    refusals.push(Refusal::new(name, format!("{why} ({error})")));
                }
                features |= missing;
            }
            _ => {
                // The validator does not tag every error with its proposal: valid with all of them is still a refusal.
                validate(module, all_core_features()).map_err(malformed)?;
                refusals.push(Refusal::new("unsupported proposal", error.to_string()));
                return Ok(refusals);
            }
        }
    }
}

fn refuse_imports(facts: &Facts, out: &mut Vec<Refusal>) {
    for (count, what) in
        [(facts.imported_memories, "memory"), (facts.imported_tables, "table"), (facts.imported_globals, "global")]
    {
        if count > 0 {
            out.push(Refusal::new(
                format!("imported {what}"),
                format!("a guest must define its own {what}: what it imports is not its state"),
            ));
        }
    }
}

fn refuse_memories(facts: &Facts, out: &mut Vec<Refusal>) {
    match facts.memories.len() {
        0 => out.push(Refusal::new("missing memory", "a guest must define one linear memory")),
        1 => {}
        n => {
            out.push(Refusal::new("multiple memories", format!("guests have exactly one memory, this module has {n}")))
        }
    }
    if facts.memories.iter().any(|m| m.shared) {
        out.push(Refusal::new("shared memory", "another thread could change it while it is being frozen"));
    }
    if facts.memories.iter().any(|m| m.memory64) {
        out.push(Refusal::new("memory64", "guests have one 32-bit memory"));
    }
}

fn refuse_references(facts: &Facts, out: &mut Vec<Refusal>) {
    for (i, table) in facts.tables.iter().enumerate() {
        if table.element_type != RefType::FUNCREF {
            out.push(Refusal::new(
                "table of references",
                format!("table {i} holds {}, only funcref can be captured", table.element_type),
            ));
        }
    }
    for (i, global) in facts.globals.iter().enumerate() {
        if global.mutable && matches!(global.content_type, ValType::Ref(_)) {
            out.push(Refusal::new(
                "reference-typed mutable global",
                format!("global {i} holds {}", global.content_type),
            ));
        }
    }
}

fn refuse_segments(facts: &Facts, out: &mut Vec<Refusal>) {
    for op in ["memory.init", "data.drop", "table.init", "elem.drop"] {
        if facts.uses.contains_key(op) {
            out.push(Refusal::new(op, "whether a passive segment was dropped cannot be read from an instance"));
        }
    }
    let bytes = facts.memories.first().map_or(0, |m| m.initial.saturating_mul(WASM_PAGE));
    for (i, data) in facts.data.iter().enumerate() {
        let DataKind::Active { offset_expr, .. } = &data.kind else { continue };
        match const_offset(offset_expr) {
            None => out.push(Refusal::new(
                "computed data offset",
                format!("the offset of data segment {i} is not a constant"),
            )),
            Some(offset) if u64::from(offset) + data.data.len() as u64 > bytes => out.push(Refusal::new(
                "data outside memory",
                format!("data segment {i} is {} bytes at {offset}, memory starts with {bytes} bytes", data.data.len()),
            )),
            Some(_) => {}
        }
    }
}

fn refuse_nesting(facts: &Facts, out: &mut Vec<Refusal>) {
    if facts.nested_loops > MAX_NESTED_LOOPS {
        out.push(Refusal::new(
            "nested loops",
            format!("{} loops inside each other, at most {MAX_NESTED_LOOPS}", facts.nested_loops),
        ));
    }
}

fn refuse_names(facts: &Facts, out: &mut Vec<Refusal>) {
    if let Some(export) = facts.exports.iter().find(|e| e.name.starts_with(RESERVED)) {
        out.push(Refusal::new(
            "reserved export name",
            format!("{:?}: names beginning with {RESERVED} are the runtime's", export.name),
        ));
    }
}

/// Reads and judges a module. Fails only if it is no valid core module.
pub fn judge(module: &[u8]) -> Outcome<(Facts<'_>, Vec<Refusal>)> {
    if wasmparser::Parser::is_component(module) {
        return Err(malformed("it is a component; actors are core modules"));
    }
    let mut refusals = refused_proposals(module)?;
    let facts = Facts::collect(module).map_err(malformed)?;
    let mut more = Vec::new();
    for rule in [refuse_imports, refuse_memories, refuse_references, refuse_segments, refuse_names, refuse_nesting] {
        rule(&facts, &mut more);
    }
    more.retain(|new| !refusals.iter().any(|old| old.feature == new.feature));
    refusals.extend(more);
    Ok((facts, refusals))
}
