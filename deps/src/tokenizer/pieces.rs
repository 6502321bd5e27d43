//! The raw bytes of every token, from the vocabulary and the decoder of a tokenizer.json.
//!
//! The library decodes whole sequences into a `String` and replaces what is not UTF-8; a stream of tokens needs the
//! bytes as they are, since a character may be split between two tokens. So only decoders that work token by token are
//! taken.

use crate::abi::{invalid, refused, Outcome};
use serde_json::Value;
use std::collections::HashMap;

#[derive(Default)]
pub struct Decoder {
    byte_level: bool,
    byte_fallback: bool,
    /// Replacements in order, as in `▁` to a space.
    replace: Vec<(String, String)>,
    /// Whether the decoder drops one space at the very start of a decoded sequence.
    pub strips_leading_space: bool,
    pub name: String,
}

impl Decoder {
    pub fn from_json(decoder: &Value) -> Outcome<Decoder> {
        let mut result = Decoder { name: kind(decoder).to_string(), ..Decoder::default() };
        if kind(decoder) == "Sequence" {
            for step in decoder["decoders"].as_array().map_or(&[][..], |a| a) {
                result.add(step)?;
            }
        } else {
            result.add(decoder)?;
        }
        Ok(result)
    }

    fn add(&mut self, step: &Value) -> Outcome<()> {
        match kind(step) {
            "ByteLevel" => self.byte_level = true,
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => {}
            "Replace" => {
                let (Some(from), Some(to)) = (step["pattern"]["String"].as_str(), step["content"].as_str()) else {
                    return refused("[tokenizer.new] a Replace decoder with a regular expression is not supported");
                };
                self.replace.push((from.into(), to.into()));
            }
            "Metaspace" => {
                self.replace.push((step["replacement"].as_str().unwrap_or("▁").into(), " ".into()));
                // Older files say add_prefix_space, newer ones prepend_scheme.
                self.strips_leading_space = step["prepend_scheme"]
                    .as_str()
                    .map_or(step["add_prefix_space"] != Value::Bool(false), |s| s != "never");
            }
            "Strip" => {
                if step["content"] != " " || step["stop"].as_u64() != Some(0) || step["start"].as_u64() > Some(1) {
                    return refused(format!("[tokenizer.new] the decoder {step} is not supported"));
                }
                self.strips_leading_space = step["start"].as_u64() == Some(1);
            }
            other => {
                return refused(format!(
                    "[tokenizer.new] decoder {other} is not supported: it does not work token by token \
                     (supported: ByteLevel, ByteFallback, Metaspace, Replace, Strip, Fuse)"
                ))
            }
        }
        Ok(())
    }

    /// The bytes of a token of the model's vocabulary. Added tokens are their own content and do not come here.
    fn bytes(&self, piece: &str, chars: &HashMap<char, u8>) -> Vec<u8> {
        if self.byte_level {
            // Same as the library: a piece with any other character stands for itself.
            let mapped: Option<Vec<u8>> = piece.chars().map(|c| chars.get(&c).copied()).collect();
            return mapped.unwrap_or_else(|| piece.as_bytes().to_vec());
        }
        if let Some(byte) = self.byte_fallback.then(|| fallback_byte(piece)).flatten() {
            return vec![byte];
        }
        let text = self.replace.iter().fold(piece.to_string(), |text, (from, to)| text.replace(from, to));
        text.into_bytes()
    }
}

fn kind(decoder: &Value) -> &str {
    decoder["type"].as_str().unwrap_or("null")
}

/// `<0x0A>` stands for one byte.
fn fallback_byte(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// The printable character that stands for each byte in byte-level vocabularies, reversed
/// (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode).
fn byte_level_chars() -> HashMap<char, u8> {
    let mut next = 256;
    (0..=255u8)
        .map(|b| {
            let printable = matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let code = if printable { u32::from(b) } else { next };
            next += u32::from(!printable);
            (char::from_u32(code).expect("below 324"), b)
        })
        .collect()
}

/// More ids than any vocabulary has; a file that names a greater one asks for memory, not for a tokenizer.
const MAX_VOCABULARY: u32 = 1 << 22;

/// Index: token id. `None`: an id that the vocabulary skips.
pub fn all(tokenizer: &tokenizers::Tokenizer, decoder: &Decoder) -> Outcome<Vec<Option<Vec<u8>>>> {
    let vocabulary = tokenizer.get_vocab(true);
    let greatest = vocabulary.values().max().copied();
    if let Some(id) = greatest.filter(|id| *id >= MAX_VOCABULARY) {
        return invalid(format!("[tokenizer.new] a token has the id {id}, at most {MAX_VOCABULARY} ids are supported"));
    }
    let size = greatest.map_or(0, |id| id + 1);
    let chars = byte_level_chars();
    let mut pieces = vec![None; size as usize];
    for (piece, id) in vocabulary {
        pieces[id as usize] = Some(decoder.bytes(&piece, &chars));
    }
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        pieces[id as usize] = Some(token.content.into_bytes());
    }
    Ok(pieces)
}
