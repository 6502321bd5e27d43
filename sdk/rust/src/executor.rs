//! Runs the one future that an actor is. Polled only inside a turn; between turns it lies on the heap and waits.
//!
//! Wakers are real, so that combinators which poll only what was woken work: a completion wakes the future that waits
//! for it, and the body is polled until a poll wakes nothing more. There is nothing else that could wake it: outside of
//! turns nothing runs.

use std::cell::RefCell;
use std::fmt::Display;
use std::future::Future;
use std::panic;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::mailbox::{log, Level};
use crate::waiting;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Body = Pin<Box<dyn Future<Output = ()>>>;

// wasm32 without threads: a thread-local is a plain static in linear memory.
thread_local! {
    static BODY: RefCell<Option<Body>> = const { RefCell::new(None) };
    static WOKEN: Arc<Woken> = Arc::new(Woken(AtomicBool::new(false)));
}

/// What the body of an actor may return.
pub trait Outcome {
    /// Panics if it is an error: the supervisor sees an actor that failed, and its log says why.
    fn accept(self);
}

impl Outcome for () {
    fn accept(self) {}
}

impl<E: Display> Outcome for Result<(), E> {
    fn accept(self) {
        if let Err(error) = self {
            panic!("the actor's body returned an error: {}", error);
        }
    }
}

/// The first turn.
pub fn start<F>(body: F)
where
    F: Future + 'static,
    F::Output: Outcome,
{
    // wasm32-unknown-unknown has no stderr; and one way for all targets is easier to remember.
    panic::set_hook(Box::new(|info| log(Level::Error, info.to_string())));
    BODY.with(|slot| *slot.borrow_mut() = Some(Box::pin(async move { body.await.accept() })));
    WOKEN.with(|woken| woken.0.store(true, Ordering::Relaxed));
    turn();
}

/// Every later turn: hands a completion to whoever waits for it.
pub fn complete(op: i64, status: i64) {
    if let Some(waker) = waiting::complete(op, status) {
        waker.wake();
        turn();
    }
}

fn turn() {
    let woken = WOKEN.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    // Out of its slot while it runs, so that nothing is borrowed meanwhile.
    let mut body = BODY.with(|slot| slot.borrow_mut().take());
    while woken.0.swap(false, Ordering::Relaxed) {
        if let Some(future) = &mut body {
            if let Poll::Ready(()) = future.as_mut().poll(&mut context) {
                body = None;
            }
        }
    }
    BODY.with(|slot| *slot.borrow_mut() = body);
}
