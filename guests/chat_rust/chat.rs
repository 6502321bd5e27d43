//! The chat actor of guests/chat, in Rust: one conversation with the model, told message by message. Its settings come
//! from the environment: SYSTEM, TEMPERATURE, TOP_P, TOP_K, MAX_TOKENS, SEED.
use driftwood::{end_reply, receive, reply, Error, GenerateOptions, Session};
use std::{env, str::FromStr};

fn setting<T: FromStr + Default>(name: &str) -> T {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn sampling() -> GenerateOptions {
    GenerateOptions {
        temperature: setting("TEMPERATURE"),
        top_p: setting("TOP_P"),
        top_k: setting("TOP_K"),
        max_tokens: setting("MAX_TOKENS"),
        seed: setting("SEED"),
    }
}

async fn chat() -> Result<(), Error> {
    let mut options = sampling();
    let session = Session::open()?;
    if let Ok(system) = env::var("SYSTEM") {
        session.append("system", system)?;
    }
    loop {
        if session.append("user", receive().await?).is_err() {
            reply("(This conversation has filled the model's context; I cannot take in more.)")?;
        } else {
            let mut answer = session.generate(&options)?;
            while let Some(piece) = answer.next().await? {
                reply(piece)?;
            }
            options.seed = options.seed.wrapping_add(1); // another answer, other random numbers
        }
        end_reply()?;
    }
}

driftwood::actor!(chat);
