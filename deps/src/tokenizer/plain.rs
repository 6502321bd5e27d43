//! The second tokenizer, for text that must not turn into special tokens, such as what a user typed.
//!
//! The library can leave special tokens unmatched in the text (`encode_special_tokens`). That is not enough where the
//! model's own vocabulary holds the special token's spelling too (Unigram, or BPE that takes whole words): then the
//! model itself produces it. There, the spelling is renamed to one that text will not hold. The id stays.

use crate::abi::{because, invalid, Outcome};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tokenizers::Tokenizer;

/// Spellings of special tokens, apart from the unknown token: that one is a legitimate result for plain text.
fn special_spellings(json: &Value) -> Vec<String> {
    let unknown = unknown_spelling(&json["model"]);
    let special = json["added_tokens"].as_array().into_iter().flatten().filter(|t| t["special"] == true);
    special.filter_map(|t| t["content"].as_str()).filter(|c| Some(*c) != unknown).map(String::from).collect()
}

fn unknown_spelling(model: &Value) -> Option<&str> {
    match model["unk_id"].as_u64() {
        Some(id) => model["vocab"].get(id as usize)?.get(0)?.as_str(),
        None => model["unk_token"].as_str(),
    }
}

/// Pieces that a BPE's merge rules name: these cannot be renamed without breaking the rules.
fn merged_pieces(model: &Value) -> HashSet<String> {
    let mut pieces = HashSet::new();
    for merge in model["merges"].as_array().into_iter().flatten() {
        let pair = match merge {
            Value::String(s) => s.split_once(' '),
            other => other.get(0).and_then(Value::as_str).zip(other.get(1).and_then(Value::as_str)),
        };
        if let Some((a, b)) = pair {
            pieces.extend([a.to_string(), b.to_string(), format!("{a}{b}")]);
        }
    }
    pieces
}

/// Nothing that is meant to be read holds two plane-16 noncharacters.
fn alias(index: usize) -> String {
    format!("\u{10FFFF}\u{10FFFE}{index}")
}

/// Renames the spellings inside the model's vocabulary; says which were found there.
fn rename(model: &mut Value, aliases: &HashMap<String, String>) -> HashSet<String> {
    let mut renamed = HashSet::new();
    match &mut model["vocab"] {
        Value::Object(map) => {
            let entries = std::mem::take(map);
            map.extend(entries.into_iter().map(|(piece, id)| match aliases.get(&piece) {
                Some(alias) => {
                    renamed.insert(piece);
                    (alias.clone(), id)
                }
                None => (piece, id),
            }));
        }
        Value::Array(pieces) => {
            for piece in pieces {
                if let Some(alias) = piece.get(0).and_then(Value::as_str).and_then(|p| aliases.get(p)) {
                    renamed.insert(piece[0].as_str().unwrap_or_default().to_string());
                    piece[0] = Value::String(alias.clone());
                }
            }
        }
        _ => {}
    }
    renamed
}

pub fn make(json: &Value, full: &Tokenizer) -> Outcome<Tokenizer> {
    let merged = merged_pieces(&json["model"]);
    let special = special_spellings(json).into_iter().enumerate().filter(|(_, s)| !merged.contains(s));
    let aliases: HashMap<String, String> = special.map(|(i, s)| (s, alias(i))).collect();
    let mut json = json.clone();
    let renamed = rename(&mut json["model"], &aliases);
    let mut plain = if renamed.is_empty() {
        full.clone()
    } else {
        // Tokens that the model lacks get new ids in the list's order: the renamed go last, so others keep theirs.
        if let Some(tokens) = json["added_tokens"].as_array_mut() {
            tokens.sort_by_key(|t| t["content"].as_str().is_some_and(|c| renamed.contains(c)));
        }
        serde_json::from_value::<Tokenizer>(json).map_err(because("tokenizer.new"))?
    };
    plain.set_encode_special_tokens(true);
    for (id, token) in full.get_added_tokens_decoder() {
        if !token.special && plain.token_to_id(&token.content) != Some(id) {
            return invalid(format!("[tokenizer.new] added token {:?} does not keep its id {id}", token.content));
        }
    }
    Ok(plain)
}

/// The id that stands for unknown text, if the model has one.
pub fn unknown_id(json: &Value, full: &Tokenizer) -> Option<u32> {
    full.token_to_id(unknown_spelling(&json["model"])?)
}
