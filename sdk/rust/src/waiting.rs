//! Operations that have been issued and have not completed, and the futures that wait for them.
//!
//! Invariant: while an operation is pending, the buffer that the runtime will fill is owned by its slot in OPERATIONS,
//! never by the future, and is neither read, moved nor freed. A future that goes away cancels its operation; the slot
//! and its buffer go when the completion has arrived, which it does in any case.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::abi;
use crate::error::Error;

/// A call that waits.
#[derive(Clone, Copy)]
pub enum Call {
    Receive,
    Next { stream: i64 },
    Prefill { session: i64 },
}

struct Slot {
    op: i64,
    buffer: Vec<u8>,
    state: State,
}

enum State {
    Pending(Waker),
    Done(i64),
    Abandoned,
}

// wasm32 without threads: a thread-local is a plain static in linear memory.
thread_local! {
    static OPERATIONS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

fn operations<R>(work: impl FnOnce(&mut Vec<Slot>) -> R) -> R {
    OPERATIONS.with(|slots| work(&mut slots.borrow_mut()))
}

/// A completion: whom to wake, if anyone still waits for it.
pub fn complete(op: i64, status: i64) -> Option<Waker> {
    operations(|slots| {
        let at = slots.iter().position(|slot| slot.op == op)?;
        match mem::replace(&mut slots[at].state, State::Done(status)) {
            State::Pending(waker) => Some(waker),
            State::Done(_) | State::Abandoned => {
                slots.swap_remove(at);
                None
            }
        }
    })
}

/// Issues `call` with a buffer of `capacity` bytes and returns the operation's id.
fn issue(call: Call, capacity: usize, waker: &Waker) -> Result<i64, Error> {
    let mut buffer = vec![0; capacity];
    let (out, length) = (buffer.as_mut_ptr(), abi::length_of(&buffer));
    // SAFETY: `out` points to `length` bytes on the heap. They move into the slot below (which does not move the bytes)
    // and nobody touches them until the completion: the invariant of this file.
    let op = Error::check(unsafe {
        match call {
            Call::Receive => abi::receive(out, length),
            Call::Next { stream } => abi::next(stream, out, length),
            Call::Prefill { session } => abi::prefill(session),
        }
    })?;
    operations(|slots| slots.push(Slot { op, buffer, state: State::Pending(waker.clone()) }));
    Ok(op)
}

/// The status and the buffer of a completed operation; of a pending one, remembers whom to wake.
fn take(op: i64, waker: &Waker) -> Option<(i64, Vec<u8>)> {
    operations(|slots| {
        let at = slots.iter().position(|slot| slot.op == op).expect("an operation that is waited for has a slot");
        match &mut slots[at].state {
            State::Done(status) => {
                let status = *status;
                Some((status, slots.swap_remove(at).buffer))
            }
            state => {
                *state = State::Pending(waker.clone());
                None
            }
        }
    })
}

fn abandon(op: i64) {
    let pending = operations(|slots| {
        let at = slots.iter().position(|slot| slot.op == op).expect("an operation that is waited for has a slot");
        if let State::Done(_) = slots[at].state {
            slots.swap_remove(at);
            return false;
        }
        slots[at].state = State::Abandoned;
        true
    });
    if pending {
        // SAFETY: no pointers. -EBADF changes nothing: then its completion is already on its way.
        unsafe { abi::cancel(op) };
    }
}

/// Waits for one operation, issued when first polled: its status and the bytes it wrote. A buffer that was too small is
/// replaced by one that is not, and the call made again.
pub struct Waiting {
    call: Call,
    capacity: usize,
    op: Option<i64>, // issued, and neither taken nor abandoned
}

impl Waiting {
    pub fn new(call: Call, capacity: usize) -> Waiting {
        Waiting { call, capacity, op: None }
    }
}

impl Future for Waiting {
    type Output = Result<(i64, Vec<u8>), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let op = match self.op {
            Some(op) => op,
            None => issue(self.call, self.capacity, context.waker())?,
        };
        self.op = Some(op);
        let (status, buffer) = match take(op, context.waker()) {
            Some(done) => done,
            None => return Poll::Pending,
        };
        self.op = None;
        if let Some(needed) = Error::needed(status) {
            self.capacity = needed;
            self.op = Some(issue(self.call, needed, context.waker())?);
            return Poll::Pending;
        }
        Poll::Ready(Error::check(status).map(|status| (status, buffer)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(op) = self.op {
            abandon(op);
        }
    }
}

/// Waits for bytes: as many as the status says.
pub async fn bytes(call: Call, capacity: usize) -> Result<Vec<u8>, Error> {
    let (status, mut buffer) = Waiting::new(call, capacity).await?;
    buffer.truncate(status as usize);
    Ok(buffer)
}
