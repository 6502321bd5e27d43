//! Conversations with the actor's model.

use std::mem;

use crate::abi;
use crate::error::Error;
use crate::waiting::{self, Waiting};
use crate::words;

/// How `generate` picks tokens. The default is greedy, until the model ends its turn or the context is full.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerateOptions {
    /// 0: greedy (ties go to the lower token id).
    pub temperature: f32,
    /// 0 or 1: off.
    pub top_p: f32,
    /// 0: off.
    pub top_k: u32,
    /// 0: no limit of its own.
    pub max_tokens: u32,
    /// Of the sampler's counter-based generator; used as given.
    pub seed: u64,
}
const _: () = assert!(mem::size_of::<GenerateOptions>() == 24, "ABI");

/// A conversation. Closes itself when dropped, and ends what still goes on in it.
#[derive(Debug)]
pub struct Session {
    handle: i64,
}

impl Session {
    /// An empty conversation. `EOVERFLOW`: too many are open.
    pub fn open() -> Result<Session, Error> {
        // SAFETY: no pointers.
        let handle = Error::check(unsafe { abi::session_open() })?;
        Ok(Session { handle })
    }

    /// Appends a message of "system", "user" or "assistant" and returns the number of tokens that it added. Text never
    /// becomes a special token. `ENOSPC`: it does not fit into the model's context.
    pub fn append(&self, role: &str, text: impl AsRef<[u8]>) -> Result<u32, Error> {
        let (role, text) = (role.as_bytes(), text.as_ref());
        let (role_length, text_length) = (abi::length_of(role), abi::length_of(text));
        // SAFETY: both ranges are those of live slices, read at the call.
        let result =
            unsafe { abi::session_append(self.handle, role.as_ptr(), role_length, text.as_ptr(), text_length) };
        Error::check(result).map(|tokens| tokens as u32)
    }

    /// The model begins to answer. One stream at a time: `EBUSY`.
    pub fn generate(&self, options: &GenerateOptions) -> Result<Stream, Error> {
        // SAFETY: `options` is live, has the layout of the header's struct (repr(C), asserted above) and is read at the
        // call.
        let result = unsafe { abi::generate(self.handle, options, mem::size_of::<GenerateOptions>() as u32) };
        Error::check(result).map(|handle| Stream { handle })
    }

    /// Computes what was appended (the next `generate` would do it, too) and returns the number of tokens computed.
    pub async fn prefill(&self) -> Result<u32, Error> {
        // SAFETY: no pointers.
        let (status, ()) = Waiting::new((), |_| unsafe { abi::prefill(self.handle) }).await?;
        Error::check(status).map(|tokens| tokens as u32)
    }

    /// The model's turn to speak, with tokens that this actor picks. Returns the number of tokens that it added.
    pub fn answer(&self) -> Result<u32, Error> {
        // SAFETY: no pointers.
        Error::check(unsafe { abi::session_answer(self.handle) }).map(|tokens| tokens as u32)
    }

    /// Appends tokens (perhaps none), computes, and returns the logits of the last one, one for each token of the
    /// vocabulary. Tokens go on with an open answer, up to one that ends the turn; others are raw.
    pub async fn decode(&self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let issue = |logits: &mut Vec<f32>| {
            let (out, capacity) = (logits.as_mut_ptr(), abi::length_of(logits));
            // SAFETY: `tokens` is a live slice, read at the call; the logits are the operation's until it completes.
            unsafe { abi::decode(self.handle, tokens.as_ptr(), abi::length_of(tokens), out, capacity) }
        };
        let (status, logits) = Waiting::new(vec![0.0; words::vocabulary() as usize], issue).await?;
        Error::check(status).map(|_| logits)
    }

    /// A conversation with the same past, which costs no copy. Not while generating.
    pub fn fork(&self) -> Result<Session, Error> {
        // SAFETY: no pointers.
        let handle = Error::check(unsafe { abi::session_fork(self.handle) })?;
        Ok(Session { handle })
    }

    /// Forgets everything after the first `messages` messages.
    pub fn rewind(&self, messages: u32) -> Result<(), Error> {
        // SAFETY: no pointers.
        Error::check(unsafe { abi::session_rewind(self.handle, messages) }.into()).map(drop)
    }

    /// Forgets everything after the first `tokens` tokens. An answer that is cut is open again.
    pub fn rewind_tokens(&self, tokens: u32) -> Result<(), Error> {
        // SAFETY: no pointers.
        Error::check(unsafe { abi::session_rewind_tokens(self.handle, tokens) }.into()).map(drop)
    }

    /// Tokens so far, those not yet computed included.
    pub fn tokens(&self) -> Result<u32, Error> {
        // SAFETY: no pointers.
        Error::check(unsafe { abi::session_tokens(self.handle) }).map(|tokens| tokens as u32)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: no pointers; nobody uses the handle afterwards.
        unsafe { abi::session_close(self.handle) };
    }
}

/// The model's answer as it is made. Dropped early, it stops the model; what was said stays in the session.
#[derive(Debug)]
pub struct Stream {
    handle: i64,
}

impl Stream {
    /// Some more text, in whole characters, ready tokens together; `None` at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        const FIRST_CAPACITY: usize = 256;
        let bytes = {
            // SAFETY: the buffer is the operation's until it completes.
            let call = |out, capacity| unsafe { abi::next(self.handle, out, capacity) };
            waiting::bytes(FIRST_CAPACITY, call).await?
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: no pointers; nobody uses the handle afterwards.
        unsafe { abi::stream_close(self.handle) };
    }
}
