//! Operations that have been issued and have not completed, and the futures that wait for them.
//!
//! Invariant: while an operation is pending, whatever the runtime reads or writes for it lies on the heap, is owned by
//! its slot in OPERATIONS, never by the future, and is neither read, moved nor freed. A future that goes away cancels
//! its operation; the slot and what it owns go when the completion has arrived, which it does in any case.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::abi;
use crate::error::Error;

struct Slot {
    op: i64,
    owned: Box<dyn Any>,
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

/// The status and the owned of a completed operation; of a pending one, remembers whom to wake.
fn take(op: i64, waker: &Waker) -> Option<(i64, Box<dyn Any>)> {
    operations(|slots| {
        let at = slots.iter().position(|slot| slot.op == op).expect("an operation that is waited for has a slot");
        match &mut slots[at].state {
            State::Done(status) => {
                let status = *status;
                Some((status, slots.swap_remove(at).owned))
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

/// Waits for one operation: its status, and what it owned. `issue` is called when first polled, with what the operation
/// will own, and returns what the runtime's call returned. It may tell the runtime of that only what lies on the heap.
pub struct Waiting<T, F> {
    issue: F,
    owned: Option<T>, // until it is issued
    op: Option<i64>,  // issued, and neither taken nor abandoned
}

impl<T, F> Waiting<T, F>
where
    T: Unpin + 'static,
    F: FnMut(&mut T) -> i64 + Unpin,
{
    pub fn new(owned: T, issue: F) -> Waiting<T, F> {
        Waiting { issue, owned: Some(owned), op: None }
    }
}

impl<T, F> Future for Waiting<T, F>
where
    T: Unpin + 'static,
    F: FnMut(&mut T) -> i64 + Unpin,
{
    /// Err: the call was refused, and nothing was issued.
    type Output = Result<(i64, T), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(mut owned) = self.owned.take() {
            let op = Error::check((self.issue)(&mut owned))?;
            let state = State::Pending(context.waker().clone());
            operations(|slots| slots.push(Slot { op, owned: Box::new(owned), state }));
            self.op = Some(op);
        }
        let op = self.op.expect("a future that is done is not polled again");
        let (status, owned) = match take(op, context.waker()) {
            Some(done) => done,
            None => return Poll::Pending,
        };
        self.op = None;
        let owned = owned.downcast::<T>().expect("a slot owns what it was given");
        Poll::Ready(Ok((status, *owned)))
    }
}

impl<T, F> Drop for Waiting<T, F> {
    fn drop(&mut self) {
        if let Some(op) = self.op {
            abandon(op);
        }
    }
}

/// Waits for bytes, as many as the status says. A buffer that was too small is replaced by one that is not, and the
/// call made again.
pub async fn bytes(mut capacity: usize, call: impl Fn(*mut u8, u32) -> i64 + Unpin) -> Result<Vec<u8>, Error> {
    loop {
        let issue = |buffer: &mut Vec<u8>| call(buffer.as_mut_ptr(), abi::length_of(buffer));
        let (status, mut buffer) = Waiting::new(vec![0; capacity], issue).await?;
        if let Some(needed) = Error::needed(status) {
            capacity = needed;
            continue;
        }
        buffer.truncate(Error::check(status)? as usize);
        return Ok(buffer);
    }
}
