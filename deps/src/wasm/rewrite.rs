//! Makes a module ready to be born, frozen and thawed the same way every time:
//! its start function becomes an export, its active data becomes the birth image, its state becomes reachable.
//!
//! Sections that do not change are copied as bytes. The code section is among them, so indices stay what they were and
//! the code offsets in name sections and DWARF stay true.

use super::facts::{const_offset, Facts};
use super::refuse::{guest_features, judge, validate, Refusal, RESERVED};
use super::report::report;
use crate::abi::{because, refused, Outcome};
use serde_json::{json, Value};
use wasm_encoder::{DataSection, ExportKind, ExportSection, Module, RawSection, SectionId};
use wasmparser::{DataKind, ExternalKind, Parser};

pub struct Rewritten {
    pub module: Vec<u8>,
    /// The bytes of the birth image's pieces, one after the other; `facts.birth` says where each belongs.
    pub birth: Vec<u8>,
    pub facts: Value,
}

struct Added {
    name: String,
    kind: ExportKind,
    index: u32,
}

/// The exports that make the instance's state reachable.
fn added_exports(facts: &Facts) -> Vec<Added> {
    let mut added = Vec::new();
    let mut add =
        |stem: &str, kind, index: u32| added.push(Added { name: format!("{RESERVED}{stem}_{index}"), kind, index });
    for i in 0..facts.memories.len() as u32 {
        add("memory", ExportKind::Memory, i);
    }
    for (i, global) in facts.globals.iter().enumerate() {
        if global.mutable {
            add("global", ExportKind::Global, i as u32);
        }
    }
    for i in 0..facts.tables.len() as u32 {
        add("table", ExportKind::Table, i);
    }
    if facts.mutates_tables() {
        for &i in &facts.referenced {
            add("func", ExportKind::Func, i);
        }
    }
    if let Some(index) = facts.start {
        added.push(Added { name: format!("{RESERVED}start"), kind: ExportKind::Func, index });
    }
    added
}

fn export_section(facts: &Facts, added: &[Added]) -> ExportSection {
    let mut section = ExportSection::new();
    for export in &facts.exports {
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
        };
        section.export(export.name, kind, export.index);
    }
    for a in added {
        section.export(&a.name, a.kind, a.index);
    }
    section
}

/// An active segment becomes an empty passive one, so that the count and the indices of segments stay.
fn data_section(facts: &Facts) -> DataSection {
    let mut section = DataSection::new();
    for data in &facts.data {
        let kept: &[u8] = if matches!(data.kind, DataKind::Passive) { data.data } else { &[] };
        section.passive(kept.iter().copied());
    }
    section
}

/// Whether a section must stand behind the export section.
fn follows_exports(id: u8) -> bool {
    [SectionId::Start, SectionId::Element, SectionId::DataCount, SectionId::Code, SectionId::Data]
        .iter()
        .any(|s| *s as u8 == id)
}

fn encode(original: &[u8], facts: &Facts, added: &[Added]) -> wasmparser::Result<Vec<u8>> {
    let mut module = Module::new();
    let mut exported = false;
    for payload in Parser::new(0).parse_all(original) {
        let Some((id, range)) = payload?.as_section() else { continue };
        let is_export = id == SectionId::Export as u8;
        if !exported && (is_export || follows_exports(id)) {
            module.section(&export_section(facts, added));
            exported = true;
        }
        if id == SectionId::Data as u8 {
            module.section(&data_section(facts));
        } else if !is_export && id != SectionId::Start as u8 {
            module.section(&RawSection { id, data: &original[range] });
        }
    }
    if !exported {
        module.section(&export_section(facts, added));
    }
    Ok(module.finish())
}

/// Active data in the order in which instantiation would have written it.
fn birth_image(facts: &Facts) -> (Vec<u8>, Vec<Value>) {
    let (mut bytes, mut pieces) = (Vec::new(), Vec::new());
    for data in &facts.data {
        let DataKind::Active { offset_expr, .. } = &data.kind else { continue };
        if let (Some(offset), false) = (const_offset(offset_expr), data.data.is_empty()) {
            pieces.push(json!({"offset": offset, "len": data.data.len()}));
            bytes.extend_from_slice(data.data);
        }
    }
    (bytes, pieces)
}

fn describe(facts: &Facts, added: &[Added], birth: Vec<Value>) -> Value {
    let of = |kind: ExportKind, stem: &str| -> Vec<&Added> {
        let stem = format!("{RESERVED}{stem}_");
        added.iter().filter(|a| a.kind == kind && a.name.starts_with(&stem)).collect()
    };
    let globals: Vec<Value> = of(ExportKind::Global, "global").iter().map(|a| {
        json!({"index": a.index, "type": facts.globals[a.index as usize].content_type.to_string(), "export": a.name})
    }).collect();
    let tables: Vec<Value> = of(ExportKind::Table, "table")
        .iter()
        .map(|a| {
            let t = &facts.tables[a.index as usize];
            json!({"index": a.index, "element": t.element_type.to_string(), "min": t.initial, "max": t.maximum,
               "export": a.name})
        })
        .collect();
    let functions: Vec<Value> =
        of(ExportKind::Func, "func").iter().map(|a| json!({"index": a.index, "export": a.name})).collect();
    let memory = &facts.memories[0];
    json!({
        "has_start": facts.start.is_some(),
        "memory": {"min_pages": memory.initial, "max_pages": memory.maximum, "export": format!("{RESERVED}memory_0")},
        "globals": globals,
        "tables": tables,
        "mutates_tables": facts.mutates_tables(),
        "functions": functions,
        "birth": birth,
        "module": report(facts, &[], &[]),
    })
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(|r| format!("{}: {}", r.feature, r.why)).collect::<Vec<_>>().join("; ")
}

pub fn rewrite(original: &[u8]) -> Outcome<Rewritten> {
    let (facts, refusals) = judge(original)?;
    if !refusals.is_empty() {
        return refused(format!("[wasm.rewrite] this module could not be frozen: {}", list(&refusals)));
    }
    let added = added_exports(&facts);
    let module = encode(original, &facts, &added).map_err(because("wasm.rewrite"))?;
    validate(&module, guest_features()).map_err(because("wasm.rewrite: the result does not validate"))?;
    let (birth, pieces) = birth_image(&facts);
    Ok(Rewritten { module, birth, facts: describe(&facts, &added, pieces) })
}
