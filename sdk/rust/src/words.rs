//! The words of the actor's model. Nothing here waits.

use crate::abi;
use crate::error::Error;

fn info() -> abi::ModelInfo {
    let mut info = abi::ModelInfo::default();
    // SAFETY: `info` is live, has the layout of the header's struct (repr(C)) and is written at the call. Nothing in it
    // can be refused.
    unsafe { abi::model_info(&mut info, abi::size_of::<abi::ModelInfo>()) };
    info
}

/// How many tokens the model knows: 0 to this, exclusive. Another model may be there after a thaw.
pub fn vocabulary() -> u32 {
    info().vocab
}

/// For how many tokens a conversation has room.
pub fn context() -> u32 {
    info().context
}

/// The tokens of a text, which never becomes a special token. `EOVERFLOW` beyond 64 KiB.
pub fn tokenize(text: &str) -> Result<Vec<u32>, Error> {
    filled(text.len() / 2 + 4, |out, capacity| {
        // SAFETY: both ranges are those of live slices, read and written at the call.
        unsafe { abi::tokenize(text.as_ptr(), abi::length_of(text.as_bytes()), out, capacity) }
    })
}

/// The bytes of tokens: no whole characters where they begin or end inside one. `EINVAL`: no such token.
pub fn detokenize(tokens: &[u32]) -> Result<Vec<u8>, Error> {
    filled(tokens.len() * 8, |out, capacity| {
        // SAFETY: both ranges are those of live slices, read and written at the call.
        unsafe { abi::detokenize(tokens.as_ptr(), abi::length_of(tokens), out, capacity) }
    })
}

/// Whether the model ends its turn with this token. `EINVAL`: no such token.
pub fn ends_turn(token: u32) -> Result<bool, Error> {
    // SAFETY: no pointers.
    Error::check(unsafe { abi::token_ends_turn(token) }.into()).map(|yes| yes != 0)
}

/// Calls `fill` with a buffer, and again with a larger one if that was too small.
fn filled<T: Clone + Default>(capacity: usize, fill: impl Fn(*mut T, u32) -> i64) -> Result<Vec<T>, Error> {
    let mut buffer = vec![T::default(); capacity];
    loop {
        let result = fill(buffer.as_mut_ptr(), abi::length_of(&buffer));
        match Error::needed(result) {
            Some(needed) => buffer.resize(needed, T::default()),
            None => {
                buffer.truncate(Error::check(result)? as usize);
                return Ok(buffer);
            }
        }
    }
}
