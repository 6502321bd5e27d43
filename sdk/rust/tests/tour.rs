//! A guest that tests the SDK from inside: it uses everything there is, and panics where something is not as it should
//! be. For each message it takes the next stop of the tour, replies with what can be compared, and ends the answer.

use driftwood::{
    abi_version, end_reply, log, now, random, receive, reply, Error, GenerateOptions, Level, Session, Stream,
};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// Whichever of two is done first; the other is dropped.
struct Race<A, B>(Boxed<A>, Boxed<B>);

enum Won<A, B> {
    First(A),
    Second(B),
}

impl<A, B> Future for Race<A, B> {
    type Output = Won<A, B>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Won<A, B>> {
        if let Poll::Ready(value) = self.0.as_mut().poll(context) {
            return Poll::Ready(Won::First(value));
        }
        self.1.as_mut().poll(context).map(Won::Second)
    }
}

/// Gives way once, by waking itself: done at its second poll.
struct Yield(bool);

impl Future for Yield {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

const FEW: GenerateOptions = GenerateOptions { temperature: 0.9, top_p: 0.0, top_k: 0, max_tokens: 3, seed: 5 };

async fn rest_of(mut answer: Stream) -> Result<String, Error> {
    let mut text = String::new();
    while let Some(piece) = answer.next().await? {
        text += &piece;
    }
    Ok(text)
}

fn the_world(message: &[u8]) -> Result<(), Error> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    assert!(abi_version() >= 1);
    assert!(now() > Duration::from_secs(1_600_000_000));
    assert_eq!(random(&mut vec![0; (1 << 20) + 1]), Err(Error::EOVERFLOW));
    log(Level::Info, "a line");
    log(Level::Debug, vec![b'x'; 100_000]);
    reply(format!("{} bytes, {:?}, {:?}", message.len(), now(), bytes))
}

async fn conversations() -> Result<(), Error> {
    let session = Session::open()?;
    assert_eq!(session.append("nobody", "x"), Err(Error::EINVAL));
    let system = session.append("system", "Be brief.")?;
    assert_eq!(session.prefill().await?, system);
    assert_eq!(session.tokens()?, system);

    let branch = session.fork()?;
    branch.append("user", "Who are you?")?;
    assert!(branch.tokens()? > system);
    assert_eq!(session.tokens()?, system);
    let answer = branch.generate(&FEW)?;
    assert_eq!(branch.append("user", "Me again.").unwrap_err(), Error::EBUSY);
    let text = rest_of(answer).await?;

    branch.rewind(1)?;
    assert_eq!(branch.tokens()?, system);
    assert_eq!(branch.rewind(9), Err(Error::EINVAL));
    branch.append("user", "Who are you?")?;
    assert_eq!(rest_of(branch.generate(&FEW)?).await?, text, "the same past and seed say the same");
    reply(text)
}

/// Drops what is pending: a stream that has just begun, a prefill, and a receive that loses a race. Nothing of it may
/// disturb what comes after: no message is lost, nothing stays busy.
async fn second_thoughts() -> Result<(), Error> {
    let session = Session::open()?;
    session.append("user", "Tell me everything.")?;
    let mut answer = session.generate(&GenerateOptions { max_tokens: 0, ..FEW })?;
    let first = answer.next().await?;
    drop(answer);
    session.rewind(0)?;
    session.append("user", "Less.")?;
    let less = session.generate(&FEW)?;
    match Race(Box::pin(receive()), Box::pin(rest_of(less))).await {
        Won::First(message) => panic!("nobody sent anything: {:?}", message),
        Won::Second(text) => reply(format!("{:?}, {:?}", first, text?))?,
    }
    Yield(false).await;
    Ok(())
}

async fn tour() -> Result<(), Error> {
    loop {
        let message = receive().await?;
        match message.as_slice() {
            b"conversations" => conversations().await?,
            b"second thoughts" => second_thoughts().await?,
            b"panic" => panic!("as you wish"),
            b"error" => return Err(Error::ENOSPC),
            b"end" => return end_reply(),
            _ => the_world(&message)?,
        }
        end_reply()?;
    }
}

driftwood::actor!(tour);
