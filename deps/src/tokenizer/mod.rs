//! Text to token ids and back, from a Hugging Face tokenizer.json.

mod pieces;
mod plain;

use crate::abi::{because, borrow, bytes, check, give, guard, invalid, put, refused, slice, text, Buf, Ids, Outcome};
use llguidance::ParserFactory;
use serde_json::{json, Value};
use std::collections::{BTreeMap, HashSet};
use std::ptr::null_mut;
use std::sync::OnceLock;
use tokenizers::Tokenizer as Library;

const ADD_SPECIAL: u32 = 1;
const PARSE_SPECIAL: u32 = 2;
const SKIP_SPECIAL: u32 = 1;

pub struct Tokenizer {
    full: Library,
    plain: Library,
    decoder: pieces::Decoder,
    pub(crate) pieces: Vec<Option<Vec<u8>>>,
    pub(crate) special: BTreeMap<u32, String>,
    unknown: Option<u32>,
    /// Made at the first grammar: it holds a trie of the vocabulary.
    pub(crate) grammars: OnceLock<Result<ParserFactory, String>>,
}

/// The library numbers added tokens by itself and only warns where the file says otherwise.
fn check_ids(json: &Value, full: &Library) -> Outcome<()> {
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) else { continue };
        let given = full.token_to_id(content).map(u64::from);
        if !content.is_empty() && given != Some(id) {
            return invalid(format!(
                "[tokenizer.new] added token {content:?} says id {id}, its place gives it {given:?}"
            ));
        }
    }
    Ok(())
}

impl Tokenizer {
    fn new(file: &[u8]) -> Outcome<Tokenizer> {
        let json: Value = serde_json::from_slice(file).map_err(because("tokenizer.new"))?;
        let mut full: Library = serde_json::from_value(json.clone()).map_err(because("tokenizer.new"))?;
        // A file may carry the settings of some training run; a conversation is neither cut nor padded.
        full.with_truncation(None).map_err(because("tokenizer.new"))?;
        full.with_padding(None);
        check_ids(&json, &full)?;
        let decoder = pieces::Decoder::from_json(&json["decoder"])?;
        let added = full.get_added_tokens_decoder();
        let mut plain = plain::make(&json, &full)?;
        plain.with_truncation(None).map_err(because("tokenizer.new"))?;
        plain.with_padding(None);
        Ok(Tokenizer {
            pieces: pieces::all(&full, &decoder)?,
            special: added.iter().filter(|(_, t)| t.special).map(|(id, t)| (*id, t.content.clone())).collect(),
            unknown: plain::unknown_id(&json, &full),
            grammars: OnceLock::new(),
            decoder,
            full,
            plain,
        })
    }

    fn encode(&self, text: &str, flags: u32) -> Outcome<Vec<u32>> {
        if flags & !(ADD_SPECIAL | PARSE_SPECIAL) != 0 {
            return invalid(format!("[tokenizer.encode] unknown flags {flags:#x}"));
        }
        let parse = flags & PARSE_SPECIAL != 0;
        let library = if parse { &self.full } else { &self.plain };
        let failed = because("tokenizer.encode");
        let encoding = library.encode_fast(text, false).map_err(&failed)?;
        if !parse {
            let spelled =
                encoding.get_ids().iter().find(|id| Some(**id) != self.unknown && self.special.contains_key(id));
            if let Some(id) = spelled {
                return refused(format!(
                    "[tokenizer.encode] the text spells the special token {:?} ({id}), and this vocabulary has no \
                     other tokens for that text",
                    self.special[id]
                ));
            }
        }
        let encoding = match flags & ADD_SPECIAL != 0 {
            true => library.post_process(encoding, None, true).map_err(&failed)?,
            false => encoding,
        };
        let ids = encoding.get_ids().to_vec();
        match ids.iter().find(|id| self.piece(**id).is_none()) {
            Some(id) => {
                invalid(format!("[tokenizer.encode] the file's post-processor adds token {id}, which does not exist"))
            }
            None => Ok(ids),
        }
    }

    fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize)?.as_deref()
    }

    fn checked_piece(&self, id: u32) -> Outcome<&[u8]> {
        match self.piece(id) {
            Some(bytes) => Ok(bytes),
            None => invalid(format!("[tokenizer] token {id} is not in the vocabulary of {} ids", self.pieces.len())),
        }
    }

    fn decode(&self, ids: &[u32], flags: u32) -> Outcome<Vec<u8>> {
        if flags & !SKIP_SPECIAL != 0 {
            return invalid(format!("[tokenizer.decode] unknown flags {flags:#x}"));
        }
        let mut out = Vec::new();
        for id in ids {
            let piece = self.checked_piece(*id)?;
            if flags & SKIP_SPECIAL == 0 || !self.special.contains_key(id) {
                out.extend_from_slice(piece);
            }
        }
        if self.decoder.strips_leading_space && out.first() == Some(&b' ') {
            out.remove(0);
        }
        Ok(out)
    }

    fn info(&self) -> Value {
        let special: Vec<Value> = self.special.iter().map(|(id, c)| json!({"id": id, "content": c})).collect();
        let missing: HashSet<usize> =
            self.pieces.iter().enumerate().filter(|(_, p)| p.is_none()).map(|(i, _)| i).collect();
        json!({
            "vocab_size": self.pieces.len(),
            "unused_ids": missing.len(),
            "decoder": self.decoder.name,
            "strips_leading_space": self.decoder.strips_leading_space,
            "unknown": self.unknown,
            "special": special,
        })
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_new(
    file: *const u8,
    len: usize,
    out: *mut *mut Tokenizer,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        check(out)?;
        let tokenizer = Tokenizer::new(bytes(file, len)?)?;
        put(out, Box::into_raw(Box::new(tokenizer)))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_free(tokenizer: *mut Tokenizer) {
    guard(null_mut(), || {
        if !tokenizer.is_null() {
            drop(Box::from_raw(tokenizer));
        }
        Ok(())
    });
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_encode(
    tokenizer: *const Tokenizer,
    utf8: *const u8,
    len: usize,
    flags: u32,
    ids: *mut Ids,
    error: *mut Buf,
) -> i32 {
    guard(error, || Ids::give(ids, borrow(tokenizer)?.encode(text("the text", utf8, len)?, flags)?))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    count: usize,
    flags: u32,
    out: *mut Buf,
    error: *mut Buf,
) -> i32 {
    guard(error, || give(out, borrow(tokenizer)?.decode(slice(ids, count)?, flags)?))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_token_bytes(
    tokenizer: *const Tokenizer,
    id: u32,
    data: *mut *const u8,
    len: *mut usize,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        let piece = borrow(tokenizer)?.checked_piece(id)?;
        check(len)?;
        put(data, piece.as_ptr())?;
        put(len, piece.len())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_token_id(
    tokenizer: *const Tokenizer,
    utf8: *const u8,
    len: usize,
    id: *mut i64,
    error: *mut Buf,
) -> i32 {
    guard(error, || {
        let found = borrow(tokenizer)?.full.token_to_id(text("the token", utf8, len)?);
        put(id, found.map_or(-1, i64::from))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_vocab_size(tokenizer: *const Tokenizer, size: *mut u32, error: *mut Buf) -> i32 {
    guard(error, || put(size, borrow(tokenizer)?.pieces.len() as u32))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_tokenizer_info(tokenizer: *const Tokenizer, info: *mut Buf, error: *mut Buf) -> i32 {
    guard(error, || give(info, borrow(tokenizer)?.info().to_string().into_bytes()))
}
