//! One pass over a valid module: everything that inspection reports and rewriting needs.

use std::collections::{BTreeMap, BTreeSet};
use wasmparser::{
    ConstExpr, Data, Element, ElementItems, Export, FuncType, GlobalType, MemoryType, Operator, Parser, Payload,
    Result, TableInit, TableType, TypeRef,
};

/// What an import or export is, by its index space.
pub struct Item<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
}

/// Indices count imports first, as in the binary format. Lists hold imported entries too.
#[derive(Default)]
pub struct Facts<'a> {
    pub types: Vec<Option<FuncType>>,
    pub imports: Vec<Item<'a>>,
    pub exports: Vec<Export<'a>>,
    pub functions: Vec<u32>,
    pub memories: Vec<MemoryType>,
    pub tables: Vec<TableType>,
    pub globals: Vec<GlobalType>,
    pub imported_memories: usize,
    pub imported_tables: usize,
    pub imported_globals: usize,
    pub data: Vec<Data<'a>>,
    pub elements: Vec<Element<'a>>,
    pub start: Option<u32>,
    /// Names and sizes.
    pub custom: Vec<(&'a str, usize)>,
    pub code_bytes: usize,
    /// The most loops that lie inside each other, each in the one before.
    pub nested_loops: usize,
    /// How often each instruction of `watched` occurs.
    pub uses: BTreeMap<&'static str, u64>,
    /// Functions whose reference can come to lie in a table: named by element segments, `ref.func` or exports.
    pub referenced: BTreeSet<u32>,
}

/// Instructions that change a table, or that depend on which passive segments were dropped.
fn watched(op: &Operator) -> Option<&'static str> {
    Some(match op {
        Operator::TableSet { .. } => "table.set",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableFill { .. } => "table.fill",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableInit { .. } => "table.init",
        Operator::ElemDrop { .. } => "elem.drop",
        Operator::MemoryInit { .. } => "memory.init",
        Operator::DataDrop { .. } => "data.drop",
        _ => return None,
    })
}

impl<'a> Facts<'a> {
    pub fn collect(module: &'a [u8]) -> Result<Facts<'a>> {
        let mut facts = Facts::default();
        for payload in Parser::new(0).parse_all(module) {
            facts.take(payload?)?;
        }
        Ok(facts)
    }

    /// Whether the tables of a running instance can differ from those of a fresh one.
    pub fn mutates_tables(&self) -> bool {
        ["table.set", "table.grow", "table.fill", "table.copy", "table.init"]
            .iter()
            .any(|op| self.uses.contains_key(op))
    }

    pub fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(index as usize)? as usize)?.as_ref()
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for sub in group?.into_types() {
                        self.types.push(match sub.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(f) => Some(f),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.take_import(import?);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.tables.push(table.ty);
                    if let TableInit::Expr(expr) = table.init {
                        self.take_const(&expr)?;
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(memory?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    self.globals.push(global.ty);
                    self.take_const(&global.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == wasmparser::ExternalKind::Func {
                        self.referenced.insert(export.index);
                    }
                    self.exports.push(export);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element?;
                    self.take_items(element.items.clone())?;
                    self.elements.push(element);
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    self.data.push(data?);
                }
            }
            Payload::CustomSection(section) => self.custom.push((section.name(), section.data().len())),
            Payload::CodeSectionStart { size, .. } => self.code_bytes = size as usize,
            Payload::CodeSectionEntry(body) => self.take_code(body)?,
            _ => {}
        }
        Ok(())
    }

    fn take_import(&mut self, import: wasmparser::Import<'a>) {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
            TypeRef::Table(ty) => {
                self.tables.push(ty);
                self.imported_tables += 1;
            }
            TypeRef::Memory(ty) => {
                self.memories.push(ty);
                self.imported_memories += 1;
            }
            TypeRef::Global(ty) => {
                self.globals.push(ty);
                self.imported_globals += 1;
            }
            TypeRef::Tag(_) => {}
        }
        self.imports.push(Item { module: import.module, name: import.name, ty: import.ty });
    }

    fn take_items(&mut self, items: ElementItems<'a>) -> Result<()> {
        match items {
            ElementItems::Functions(indices) => {
                for index in indices {
                    self.referenced.insert(index?);
                }
            }
            ElementItems::Expressions(_, exprs) => {
                for expr in exprs {
                    self.take_const(&expr?)?;
                }
            }
        }
        Ok(())
    }

    fn take_const(&mut self, expr: &ConstExpr<'a>) -> Result<()> {
        for op in expr.get_operators_reader() {
            self.take_operator(&op?);
        }
        Ok(())
    }

    fn take_code(&mut self, body: wasmparser::FunctionBody<'a>) -> Result<()> {
        // Which of the open blocks are loops.
        let (mut open, mut loops) = (Vec::new(), 0);
        for op in body.get_operators_reader()? {
            let op = op?;
            match op {
                Operator::Loop { .. } => {
                    open.push(true);
                    loops += 1;
                    self.nested_loops = self.nested_loops.max(loops);
                }
                Operator::Block { .. } | Operator::If { .. } => open.push(false),
                Operator::TryTable { .. } | Operator::Try { .. } => open.push(false),
                Operator::End | Operator::Delegate { .. } => {
                    if open.pop() == Some(true) {
                        loops -= 1;
                    }
                }
                _ => {}
            }
            self.take_operator(&op);
        }
        Ok(())
    }

    fn take_operator(&mut self, op: &Operator) {
        if let Operator::RefFunc { function_index } = op {
            self.referenced.insert(*function_index);
        }
        if let Some(name) = watched(op) {
            *self.uses.entry(name).or_insert(0) += 1;
        }
    }
}

/// The value of a constant 32-bit offset, or `None` if it depends on anything but constants.
pub fn const_offset(expr: &ConstExpr) -> Option<u32> {
    let mut stack: Vec<u32> = Vec::new();
    for op in expr.get_operators_reader() {
        match op.ok()? {
            Operator::I32Const { value } => stack.push(value as u32),
            Operator::End => return if stack.len() == 1 { stack.pop() } else { None },
            other => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                stack.push(match other {
                    Operator::I32Add => a.wrapping_add(b),
                    Operator::I32Sub => a.wrapping_sub(b),
                    Operator::I32Mul => a.wrapping_mul(b),
                    _ => return None,
                });
            }
        }
    }
    None
}
