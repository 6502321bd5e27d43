//! Grammars that constrain generation: so far, whether one compiles against a tokenizer's vocabulary.

use crate::abi::{borrow, guard, text, Buf, Failure, Kind, Outcome};
use crate::tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::ParserFactory;
use std::sync::Arc;

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure { kind: Kind::Invalid, message: format!("[grammar.validate] {error}") }
}

/// The end of a generation does not decide whether a grammar compiles, so any id serves as its token.
const ANY_END_TOKEN: u32 = 0;

fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, String> {
    let words: Vec<Vec<u8>> = (0..)
        .zip(&tokenizer.pieces)
        .map(|(id, piece)| {
            let mut word = piece.clone().unwrap_or_default();
            if tokenizer.special.contains_key(&id) {
                word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
            word
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, ANY_END_TOKEN), &words);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&env).map_err(|e| e.to_string())?;
    factory.quiet();
    Ok(factory)
}

fn validate(tokenizer: &Tokenizer, kind: u32, source: &str) -> Outcome<()> {
    let tag = match kind {
        0 => "json_schema",
        1 => "lark",
        2 => "regex",
        other => return Err(failed(format!("unknown kind {other}"))),
    };
    let grammar = TopLevelGrammar::from_tagged_str(tag, source).map_err(failed)?;
    let factory = tokenizer.grammars.get_or_init(|| factory(tokenizer)).as_ref().map_err(failed)?;
    factory.create_parser(grammar).map(|_| ()).map_err(failed)
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn dwd_grammar_validate(
    tokenizer: *const Tokenizer,
    kind: u32,
    source: *const u8,
    len: usize,
    error: *mut Buf,
) -> i32 {
    guard(error, || validate(borrow(tokenizer)?, kind, text("the grammar", source, len)?))
}
