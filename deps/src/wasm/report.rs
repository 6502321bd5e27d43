//! What inspection found, as JSON.

use super::facts::Facts;
use super::refuse::Refusal;
use serde_json::{json, Value};
use wasmparser::{DataKind, ElementKind, ExternalKind, FuncType, GlobalType, MemoryType, TableType, TypeRef};

const MAX_LISTED: usize = 100;

/// `(i32, i64) -> (i32)`, always with both parentheses.
fn function(ty: Option<&FuncType>) -> String {
    let list = |types: &[wasmparser::ValType]| types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
    ty.map_or("?".into(), |f| format!("({}) -> ({})", list(f.params()), list(f.results())))
}

fn memory(ty: &MemoryType) -> String {
    format!("{}..{}", ty.initial, ty.maximum.map_or(String::new(), |m| m.to_string()))
}

fn table(ty: &TableType) -> String {
    format!("{} {}..{}", ty.element_type, ty.initial, ty.maximum.map_or(String::new(), |m| m.to_string()))
}

fn global(ty: &GlobalType) -> String {
    format!("{}{}", if ty.mutable { "mut " } else { "" }, ty.content_type)
}

fn import_type(facts: &Facts, ty: &TypeRef) -> (&'static str, String) {
    match ty {
        TypeRef::Func(i) | TypeRef::FuncExact(i) => {
            ("func", function(facts.types.get(*i as usize).and_then(|t| t.as_ref())))
        }
        TypeRef::Table(t) => ("table", table(t)),
        TypeRef::Memory(m) => ("memory", memory(m)),
        TypeRef::Global(g) => ("global", global(g)),
        TypeRef::Tag(_) => ("tag", String::new()),
    }
}

fn export_type(facts: &Facts, kind: ExternalKind, index: u32) -> (&'static str, String) {
    let at = index as usize;
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ("func", function(facts.function_type(index))),
        ExternalKind::Table => ("table", facts.tables.get(at).map(table).unwrap_or_default()),
        ExternalKind::Memory => ("memory", facts.memories.get(at).map(memory).unwrap_or_default()),
        ExternalKind::Global => ("global", facts.globals.get(at).map(global).unwrap_or_default()),
        ExternalKind::Tag => ("tag", String::new()),
    }
}

fn imports(facts: &Facts) -> Value {
    let one = |i: &super::facts::Item| {
        let (kind, ty) = import_type(facts, &i.ty);
        json!({"module": i.module, "name": i.name, "kind": kind, "type": ty})
    };
    facts.imports.iter().map(one).collect()
}

fn exports(facts: &Facts) -> Value {
    let one = |e: &wasmparser::Export| {
        let (kind, ty) = export_type(facts, e.kind, e.index);
        json!({"name": e.name, "kind": kind, "index": e.index, "type": ty})
    };
    facts.exports.iter().map(one).collect()
}

fn segments(facts: &Facts) -> (Value, Value) {
    let active = facts.data.iter().filter(|d| matches!(d.kind, DataKind::Active { .. })).count();
    let data = json!({"active": active, "passive": facts.data.len() - active});
    let count = |want: fn(&ElementKind) -> bool| facts.elements.iter().filter(|e| want(&e.kind)).count();
    let elements = json!({
        "active": count(|k| matches!(k, ElementKind::Active { .. })),
        "passive": count(|k| matches!(k, ElementKind::Passive)),
        "declared": count(|k| matches!(k, ElementKind::Declared)),
    });
    (data, elements)
}

/// A custom section's name and size; no more of them than a reader wants to see.
fn custom_sections(facts: &Facts) -> Value {
    facts.custom.iter().take(MAX_LISTED).map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect()
}

pub fn report(facts: &Facts, features: &[&str], refusals: &[Refusal]) -> Value {
    let memories: Vec<Value> = facts
        .memories
        .iter()
        .enumerate()
        .map(|(i, m)| {
            json!({"min": m.initial, "max": m.maximum, "memory64": m.memory64, "shared": m.shared,
               "imported": i < facts.imported_memories})
        })
        .collect();
    let tables: Vec<Value> = facts
        .tables
        .iter()
        .enumerate()
        .map(|(i, t)| {
            json!({"element": t.element_type.to_string(), "min": t.initial, "max": t.maximum,
               "imported": i < facts.imported_tables})
        })
        .collect();
    let globals: Vec<Value> = facts.globals.iter().enumerate().map(|(i, g)| {
        json!({"type": g.content_type.to_string(), "mutable": g.mutable, "imported": i < facts.imported_globals})
    }).collect();
    let refusals: Vec<Value> = refusals.iter().map(|r| json!({"feature": r.feature, "why": r.why})).collect();
    let (data, elements) = segments(facts);
    json!({
        "imports": imports(facts),
        "exports": exports(facts),
        "memories": memories,
        "tables": tables,
        "globals": globals,
        "data_segments": data,
        "element_segments": elements,
        "start": facts.start,
        "uses": facts.uses,
        "features": features,
        "custom_sections": custom_sections(facts),
        "functions": facts.functions.len(),
        "code_bytes": facts.code_bytes,
        "mutates_tables": facts.mutates_tables(),
        "refusals": refusals,
    })
}
