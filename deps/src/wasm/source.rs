//! Where in the source a place in a guest's code comes from: name section, DWARF, demangled names.
//!
//! Everything read here is the guest's, and it is read when the guest has failed: what is malformed, or so large that a
//! failure would become expensive, is left out.

use crate::abi::Outcome;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::fmt::Write;
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// `dwd_code_place` of the header.
#[repr(C)]
pub struct CodePlace {
    function: u32,
    offset: u32,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Context<'a> = addr2line::Context<Slice<'a>>;

const MAX_NAME_BYTES: usize = 256;
/// Of what is handed to a demangler.
const MAX_MANGLED_BYTES: usize = 1024;
const MAX_INLINED: usize = 8;
/// A line program becomes up to 24 times its size in memory.
const MAX_LINE_PROGRAM_BYTES: usize = 4 << 20;
const MAX_DWARF_BYTES: usize = 32 << 20;

/// Keeps the first `MAX_NAME_BYTES` and stops whoever writes more: a mangled name of some hundred bytes can stand for
/// gigabytes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let kept = beginning(text, MAX_NAME_BYTES - self.0.len());
        self.0.push_str(kept);
        if kept.len() < text.len() {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// As many characters as fit into `bytes`.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

fn demangle(name: &str) -> String {
    let mut out = Bounded(String::new());
    let name = beginning(name, MAX_MANGLED_BYTES);
    let done = if let Ok(symbol) = rustc_demangle::try_demangle(name) {
        write!(out, "{symbol:#}")
    } else if let Ok(symbol) = cpp_demangle::Symbol::new(name) {
        let options = cpp_demangle::DemangleOptions::default();
        symbol.structured_demangle(&mut out, &options)
    } else {
        out.write_str(name)
    };
    if done.is_err() && out.0.is_empty() {
        let _ = out.write_str(name);
    }
    out.0
}

/// What a module says about its code.
#[derive(Default)]
struct Source<'a> {
    names: HashMap<u32, &'a str>,
    imported: u32,
    /// Where each function's body begins, counted as DWARF counts: from the beginning of the code section.
    bodies: Vec<u64>,
    sections: HashMap<&'a str, &'a [u8]>,
}

impl<'a> Source<'a> {
    /// As much as can be read.
    fn read(module: &'a [u8], places: &[CodePlace]) -> Source<'a> {
        let mut source = Source::default();
        let mut code_begins = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload {
                Ok(Payload::ImportSection(section)) => {
                    let functions = |import: &wasmparser::Import| matches!(import.ty, wasmparser::TypeRef::Func(_));
                    source.imported = section.into_imports().flatten().filter(functions).count() as u32;
                }
                Ok(Payload::CodeSectionStart { range, .. }) => code_begins = range.start,
                Ok(Payload::CodeSectionEntry(body)) => {
                    source.bodies.push((body.range().start as u64).saturating_sub(code_begins as u64));
                }
                Ok(Payload::CustomSection(section)) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        source.read_names(names, places);
                    } else if section.name().starts_with(".debug_") {
                        source.sections.insert(section.name(), section.data());
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        source
    }

    fn read_names(&mut self, names: wasmparser::NameSectionReader<'a>, places: &[CodePlace]) {
        for subsection in names {
            let Ok(Name::Function(map)) = subsection else { continue };
            for naming in map.into_iter().flatten() {
                if places.iter().any(|place| place.function == naming.index) {
                    self.names.insert(naming.index, naming.name);
                }
            }
        }
    }

    fn dwarf(&self) -> Option<Context<'a>> {
        let total: usize = self.sections.values().map(|data| data.len()).sum();
        let line_program = self.sections.get(".debug_line").map_or(0, |data| data.len());
        if total > MAX_DWARF_BYTES || line_program > MAX_LINE_PROGRAM_BYTES || line_program == 0 {
            return None;
        }
        let load = |id: addr2line::gimli::SectionId| -> Result<Slice<'a>, addr2line::gimli::Error> {
            Ok(EndianSlice::new(self.sections.get(id.name()).copied().unwrap_or(&[]), LittleEndian))
        };
        Context::from_dwarf(Dwarf::load(load).ok()?).ok()
    }

    fn address(&self, place: &CodePlace) -> Option<u64> {
        let body = self.bodies.get(place.function.checked_sub(self.imported)? as usize)?;
        body.checked_add(u64::from(place.offset))
    }
}

fn entry(function: Option<String>, file: Option<String>, line: u32, column: u32) -> Value {
    json!({"function": function, "file": file, "line": line, "column": column})
}

/// The function at an address and those that it was inlined into, innermost first; empty if DWARF does not say.
fn lines(dwarf: &Context, address: u64, outermost: Option<&str>) -> Vec<Value> {
    let mut found = Vec::new();
    let Ok(mut frames) = dwarf.find_frames(address).skip_all_loads() else { return found };
    while let Ok(Some(frame)) = frames.next() {
        if found.len() == MAX_INLINED {
            break;
        }
        let raw = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let function = raw.as_deref().or(outermost).map(demangle);
        let place = frame.location.as_ref();
        let mut file = Bounded(String::new());
        let _ = file.write_str(place.and_then(|l| l.file).unwrap_or(""));
        let file = Some(file.0).filter(|name| !name.is_empty());
        found.push(entry(
            function,
            file,
            place.and_then(|l| l.line).unwrap_or(0),
            place.and_then(|l| l.column).unwrap_or(0),
        ));
    }
    found
}

pub fn source(module: &[u8], places: &[CodePlace]) -> Outcome<Value> {
    let source = Source::read(module, places);
    let dwarf = source.dwarf();
    let describe = |place: &CodePlace| -> Value {
        let name = source.names.get(&place.function).copied();
        let found = match (&dwarf, source.address(place)) {
            (Some(dwarf), Some(address)) => lines(dwarf, address, name),
            _ => Vec::new(),
        };
        if found.is_empty() {
            return json!([entry(name.map(demangle), None, 0, 0)]);
        }
        Value::Array(found)
    };
    Ok(places.iter().map(describe).collect())
}
