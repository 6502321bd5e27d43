//! A guest that tests the SDK from inside: it uses everything there is, and panics where something is not as it should
//! be. For each message it takes the next stop of the tour, replies with what can be compared, and ends the answer.

use driftwood::tensor::{add, gemm, multiply, rms_norm, silu, silu_multiply, softmax, Bf16, GemmOptions, Matrix, F16};
use driftwood::{
    abi_version, context, detokenize, end_reply, ends_turn, log, now, random, receive, reply, sleep, tokenize,
    vocabulary, Error, GenerateOptions, Level, Session, Stream,
};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
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

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Picks the likeliest tokens itself, and says what `generate` says when it is greedy.
async fn second_level() -> Result<(), Error> {
    const LONGEST: u32 = 12;
    let picking = Session::open()?;
    picking.append("user", "What is the sea made of?")?;
    let asked = picking.tokens()?;
    let generating = picking.fork()?;
    let greedy = GenerateOptions { max_tokens: LONGEST, ..Default::default() };
    let generated = rest_of(generating.generate(&greedy)?).await?;

    picking.answer()?;
    let mut picked = Vec::new();
    let mut logits = picking.decode(&[]).await?;
    assert_eq!(logits.len(), vocabulary() as usize);
    while picked.len() < LONGEST as usize {
        picked.push(likeliest(&logits));
        logits = picking.decode(&picked[picked.len() - 1..]).await?;
        if ends_turn(picked[picked.len() - 1])? {
            break;
        }
    }
    assert_eq!(picking.tokens()?, generating.tokens()?);
    let text = detokenize(&picked)?;
    // A model of random numbers says bytes that are no characters, which a stream replaces: the others are the same.
    let ascii = |bytes: &[u8]| bytes.iter().copied().filter(u8::is_ascii).collect::<Vec<u8>>();
    assert_eq!(ascii(&text), ascii(generated.as_bytes()));
    // The same past: the same logits, bit for bit.
    picking.append("user", "And the sky?")?;
    generating.append("user", "And the sky?")?;
    let next = picking.decode(&[]).await?;
    assert_eq!(next, generating.decode(&[]).await?);

    picking.rewind_tokens(asked)?;
    picking.answer()?;
    assert_eq!(likeliest(&picking.decode(&[]).await?), picked[0]);
    assert_eq!(picking.decode(&[vocabulary()]).await, Err(Error::EINVAL));
    let words = tokenize("the sea")?;
    assert_eq!(detokenize(&words)?, b"the sea");
    assert!(context() >= picking.tokens()?);
    reply(format!("{:?} {:?}", picked, &next[..4]))
}

async fn tensors() -> Result<(), Error> {
    let a = Rc::new(Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?);
    let b = Rc::new(Matrix::new(2, 3, vec![F16(0x3C00), F16(0), F16(0), F16(0), F16(0x4000), F16(0)])?); // 1 0 0, 0 2 0
    let transposed = GemmOptions { transpose_b: true, ..Default::default() };
    let c = gemm(&a, &b, Matrix::new(2, 2, vec![9.0_f32; 4])?, transposed).await?;
    assert_eq!(c.values(), [1.0, 4.0, 4.0, 10.0]);
    let more = GemmOptions { accumulate: true, ..transposed };
    assert_eq!(gemm(&a, &b, c.clone(), more).await?.values(), [2.0, 8.0, 8.0, 20.0]);
    let narrow = gemm(&a, &b, Matrix::new(2, 2, vec![Bf16(0); 4])?, transposed).await?;
    assert_eq!(narrow.values(), [Bf16(0x3F80), Bf16(0x4080), Bf16(0x4080), Bf16(0x4120)]);
    assert_eq!(gemm(&a, &b, c.clone(), GemmOptions::default()).await, Err(Error::EINVAL));
    // Dropped before it has run: nothing is touched that anybody still has.
    let mut dropped = Box::pin(gemm(&a, &b, c.clone(), more));
    let waker = futures_waker().await;
    assert!(dropped.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(dropped);

    let bias = Rc::new(Matrix::new(1, 2, vec![0.5, -0.5])?);
    let c = add(c, &bias).await?;
    assert_eq!(c.values(), [1.5, 3.5, 4.5, 9.5]);
    let c = multiply(c, &bias).await?;
    assert_eq!(c.values(), [0.75, -1.75, 2.25, -4.75]);
    let weight = Rc::new(Matrix::new(1, 2, vec![1.0, 1.0])?);
    let normed = Rc::new(rms_norm(c.clone(), &weight, 1e-5).await?);
    let activated = silu_multiply(silu(c).await?, &normed).await?;
    let shares = softmax(activated).await?;
    let sum = shares.values()[0] + shares.values()[1];
    assert!((sum - 1.0).abs() < 1e-5);
    reply(format!("{:?}", shares.into_values()))
}

/// The waker of whoever polls this.
async fn futures_waker() -> std::task::Waker {
    struct Take;
    impl Future for Take {
        type Output = std::task::Waker;
        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::task::Waker> {
            Poll::Ready(context.waker().clone())
        }
    }
    Take.await
}

async fn naps() -> Result<(), Error> {
    let before = now();
    sleep(Duration::from_secs(2)).await?;
    assert!(now() >= before + Duration::from_secs(2));
    match Race(Box::pin(sleep(Duration::from_secs(60))), Box::pin(sleep(Duration::from_secs(1)))).await {
        Won::First(_) => panic!("a minute is longer than a second"),
        Won::Second(slept) => slept?,
    }
    reply("rested")
}

async fn tour() -> Result<(), Error> {
    loop {
        let message = receive().await?;
        match message.as_slice() {
            b"conversations" => conversations().await?,
            b"second thoughts" => second_thoughts().await?,
            b"second level" => second_level().await?,
            b"tensors" => tensors().await?,
            b"naps" => naps().await?,
            b"panic" => panic!("as you wish"),
            b"error" => return Err(Error::ENOSPC),
            b"end" => return end_reply(),
            _ => the_world(&message)?,
        }
        end_reply()?;
    }
}

driftwood::actor!(tour);
