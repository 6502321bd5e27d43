//! The Rust SDK for Driftwood actors: a conversation is an `async fn`.
//!
//! ```ignore
//! use driftwood::{end_reply, receive, reply, Error, GenerateOptions, Session};
//!
//! async fn chat() -> Result<(), Error> {
//!     let session = Session::open()?;
//!     loop {
//!         session.append("user", receive().await?)?;
//!         let mut answer = session.generate(&GenerateOptions { temperature: 0.7, ..Default::default() })?;
//!         while let Some(piece) = answer.next().await? {
//!             reply(piece)?;
//!         }
//!         end_reply()?;
//!     }
//! }
//! driftwood::actor!(chat);
//! ```
//!
//! At every `.await` the actor's whole state lies in linear memory (the future of its body on the heap, the rest in
//! statics) and no stack is held: there it can be frozen, moved and thawed. An actor is single-threaded. The whole
//! interface is safe: buffers that the runtime fills belong to the SDK until the runtime is done with them, also when
//! the future that wanted the bytes is dropped or forgotten.
//!
//! A panic goes to the actor's log and ends the actor. So does an error that the body returns. A body that returns
//! `()` or `Ok(())` is done: the actor stays, and no longer does anything.

#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

mod abi;
mod error;
mod executor;
mod mailbox;
mod session;
pub mod tensor;
mod waiting;
mod words;

pub use error::Error;
pub use mailbox::{abi_version, end_reply, log, now, random, receive, reply, sleep, Level};
pub use session::{GenerateOptions, Session, Stream};
pub use words::{context, detokenize, ends_turn, tokenize, vocabulary};

/// What `actor!` needs from its own crate; not for guests.
#[doc(hidden)]
pub mod private {
    #[cfg(target_os = "wasi")]
    pub use crate::abi::initialize;
    pub use crate::executor::{complete, start};
}

/// Makes an `async fn` without arguments, returning `()` or `Result<(), E>` with an `E: Display`, the actor: its first
/// turn starts it, every later turn resumes what waits for that completion. Once in a guest.
#[macro_export]
macro_rules! actor {
    ($body:path) => {
        #[cfg(target_os = "wasi")]
        #[no_mangle]
        extern "C" fn _initialize() {
            $crate::private::initialize();
        }
        #[no_mangle]
        extern "C" fn driftwood_start() {
            $crate::private::start($body());
        }
        #[no_mangle]
        extern "C" fn driftwood_complete(op: i64, status: i64) {
            $crate::private::complete(op, status);
        }
    };
}
