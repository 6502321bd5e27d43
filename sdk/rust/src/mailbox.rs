//! Messages, replies, and what else of the world outside an actor can see.

use std::time::Duration;

use crate::abi;
use crate::error::Error;
use crate::waiting::{self, Waiting};

const FIRST_CAPACITY: usize = 1024; // of a message; a longer one is asked for again

/// Waits for the next message to this actor. Dropped while it waits, it takes nothing out of the mailbox.
pub async fn receive() -> Result<Vec<u8>, Error> {
    // SAFETY: the buffer is the operation's until it completes.
    waiting::bytes(FIRST_CAPACITY, |out, capacity| unsafe { abi::receive(out, capacity) }).await
}

/// Waits until so much time has passed, also while the actor is frozen.
pub async fn sleep(duration: Duration) -> Result<(), Error> {
    let ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    // SAFETY: no pointers.
    let (status, ()) = Waiting::new((), |_| unsafe { abi::sleep(ns) }).await?;
    Error::check(status).map(drop)
}

/// Sends bytes to whoever talks to this actor, after this turn. `EOVERFLOW` beyond 1 MiB, or too many in one turn.
pub fn reply(bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    send(bytes.as_ref(), false)
}

/// Ends the answer to the current message.
pub fn end_reply() -> Result<(), Error> {
    send(&[], true)
}

fn send(bytes: &[u8], last: bool) -> Result<(), Error> {
    // SAFETY: the range is that of a live slice, read at the call.
    let result = unsafe { abi::reply(bytes.as_ptr(), abi::length_of(bytes), last.into()) };
    Error::check(result.into()).map(drop)
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a mistake.
    Debug = 0,
    /// What happens.
    Info = 1,
    /// What should not happen, and does no harm.
    Warn = 2,
    /// What went wrong.
    Error = 3,
}

/// Writes a line to the actor's log; one longer than 64 KiB is cut.
pub fn log(level: Level, line: impl AsRef<[u8]>) {
    const LONGEST: usize = 64 << 10;
    let line = line.as_ref();
    let line = &line[..line.len().min(LONGEST)];
    // SAFETY: the range is that of a live slice, read at the call. Range, level and length are as the runtime wants
    // them, so it has nothing to refuse.
    unsafe { abi::log(level as i32, line.as_ptr(), abi::length_of(line)) };
}

/// The time since 1970; the same during one turn, never smaller than before, on any machine. (`std::time` has no clock
/// on wasm32-unknown-unknown.)
pub fn now() -> Duration {
    // SAFETY: no pointers.
    Duration::from_nanos(unsafe { abi::now() }.max(0) as u64)
}

/// Fills `out` with random bytes from the actor's own state, which is frozen with it. `EOVERFLOW` beyond 1 MiB.
pub fn random(out: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the range is that of a live slice that nobody else sees, written at the call.
    let result = unsafe { abi::random(out.as_mut_ptr(), abi::length_of(out)) };
    Error::check(result.into()).map(drop)
}

/// The ABI version of the runtime, at least 1.
pub fn abi_version() -> i32 {
    // SAFETY: no pointers.
    unsafe { abi::abi_version() }
}
