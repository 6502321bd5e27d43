//! Errors of the runtime, as values.

use std::fmt;

/// A `driftwood_errno`: why the runtime refused a call, or how an operation failed. The numbers are Linux's where Linux
/// has the thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(i32);

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl Error {
            $($(#[$doc])* pub const $name: Error = Error($number);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    /// An external operation did not survive a thaw.
    EINTERRUPTED = 4;
    /// The runtime failed; the log says how.
    EIO = 5;
    /// A buffer was too small. The SDK asks again with a larger one, so guests do not see it.
    E2BIG = 7;
    /// No such session, stream or operation.
    EBADF = 9;
    /// The actor's own memory limit, or the KV pool, is exhausted.
    ENOMEM = 12;
    /// A pointer or range outside linear memory.
    EFAULT = 14;
    /// The session or stream is in use by another operation.
    EBUSY = 16;
    /// An argument makes no sense.
    EINVAL = 22;
    /// The model's context is full.
    ENOSPC = 28;
    /// This runtime does not have the call or the option.
    ENOSYS = 38;
    /// A size or count beyond a limit of the runtime.
    EOVERFLOW = 75;
    /// Cancelled by the guest.
    ECANCELED = 125;
    /// The child of a fork does not inherit this operation.
    EFORKED = 200;
    /// The model's numbers became NaN or infinite.
    ENOTFINITE = 201;
}

/// A status that says how large the buffer should have been is `-(needed << 16 | E2BIG)`; all others fit below.
const ERRNO_BITS: u32 = 16;

impl Error {
    /// The number, above 0.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Ok with the value of a call or completion (0 or more), or the error that it is.
    pub(crate) fn check(result: i64) -> Result<i64, Error> {
        if result >= 0 {
            return Ok(result);
        }
        Err(Error((result.unsigned_abs() & ((1 << ERRNO_BITS) - 1)) as i32))
    }

    /// The size that a buffer needs, if that is what this status says.
    pub(crate) fn needed(status: i64) -> Option<usize> {
        match Error::check(status) {
            Err(Error::E2BIG) => Some((status.unsigned_abs() >> ERRNO_BITS) as usize),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({})", name, self.0),
            None => write!(f, "driftwood errno {}", self.0),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
