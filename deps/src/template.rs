//! Chat templates: Jinja as Hugging Face's `apply_chat_template` runs it.

use crate::abi::{because, give, guard, text, Buf, Failure, Kind, Outcome};
use chrono::DateTime;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{escape_formatter, Environment, Error, ErrorKind, Value};
use serde::Serialize;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

const NAME: &str = "chat template";

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Python's `json.dumps` separators: `", "` and `": "`.
struct PythonCompact;

impl serde_json::ser::Formatter for PythonCompact {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// `tojson(indent=N, ensure_ascii=false)`. Unlike Jinja's own it does not escape HTML, as chat templates expect.
fn tojson(value: Value, args: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = args.get("indent")?;
    if args.get::<Option<bool>>("ensure_ascii")? == Some(true) || args.get::<Option<bool>>("sort_keys")? == Some(true) {
        return Err(bad("tojson: ensure_ascii and sort_keys are not supported"));
    }
    args.assert_all_used()?;
    let mut out = Vec::new();
    let failed = |e: serde_json::Error| bad(format!("tojson: {e}"));
    match indent {
        Some(n) => {
            let spaces = " ".repeat(n.min(64));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonCompact)).map_err(failed)?
        }
    }
    String::from_utf8(out).map_err(|e| bad(format!("tojson: {e}")))
}

fn strftime(now_s: i64, format: &str) -> Result<String, Error> {
    let now =
        DateTime::from_timestamp(now_s, 0).ok_or_else(|| bad(format!("strftime_now: time {now_s} is out of range")))?;
    let mut out = String::new();
    write!(out, "{}", now.format(format)).map_err(|_| bad(format!("strftime_now: bad format {format:?}")))?;
    Ok(out)
}

/// An environment with what chat templates rely on; `raised` is set when the template itself refuses its input.
fn environment<'a>(now_s: i64, fuel: u64, raised: Arc<AtomicBool>) -> Environment<'a> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_fuel(Some(fuel));
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => escape_formatter(out, state, value),
    });
    env.add_filter("tojson", tojson);
    env.add_function("strftime_now", move |format: String| strftime(now_s, &format));
    env.add_function("raise_exception", move |message: String| -> Result<Value, Error> {
        raised.store(true, Ordering::Relaxed);
        Err(bad(message))
    });
    env
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn render(template: &str, context: &str, now_s: i64, fuel: u64) -> Outcome<String> {
    let context: serde_json::Value = serde_json::from_str(context).map_err(because("template.render: context"))?;
    if !context.is_object() {
        return Err(Failure {
            kind: Kind::Invalid,
            message: "[template.render] the context is not a JSON object".into(),
        });
    }
    let raised = Arc::new(AtomicBool::new(false));
    let env = environment(now_s, fuel, raised.clone());
    let result = env.template_from_named_str(NAME, template).and_then(|t| t.render(Value::from_serialize(&context)));
    result.map_err(|e| Failure {
        kind: if raised.load(Ordering::Relaxed) { Kind::Refused } else { Kind::Invalid },
        message: format!("[template.render] {}", describe(&e)),
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_template_render(
    template: *const u8,
    template_len: usize,
    context: *const u8,
    context_len: usize,
    now_s: i64,
    fuel: u64,
    out: *mut Buf,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        let template = text("the template", template, template_len)?;
        let context = text("the context", context, context_len)?;
        give(out, render(template, context, now_s, fuel)?.into_bytes())
    })
}
