//! What an answer means for breaker and limiter, by its type.

use std::time::Duration;

use object_store::Error;

use crate::class::{Class, Op};
use crate::limiter::Pace;
use crate::retry::{classify, retry_after};

/// No server is left alone for longer because it asked.
const MAX_QUIET: Duration = Duration::from_secs(60);

/// How a call ended, for breaker and limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    /// The server answered as it should, only not what was hoped for: 304, 404, 409, 412, 400.
    Answered,
    Failed(Class),
    Throttled(Option<Duration>),
    Denied,
}

pub(super) fn verdict(error: &Error, op: Op) -> Verdict {
    match error {
        Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. } => return Verdict::Answered,
        _ => {}
    }
    match classify(error, op) {
        Class::NotFound | Class::Conflict | Class::Permanent | Class::Local | Class::Refused => {
            Verdict::Answered
        }
        Class::Throttle => Verdict::Throttled(retry_after(error)),
        Class::Auth => Verdict::Denied,
        class @ (Class::Transient | Class::Timeout | Class::Ambiguous) => Verdict::Failed(class),
    }
}

pub(super) fn pace(verdict: Verdict, honors: bool) -> Pace {
    match verdict {
        Verdict::Well => Pace::Well,
        Verdict::Throttled(asked) => {
            Pace::Throttled(asked.filter(|_| honors).map(|asked| asked.min(MAX_QUIET)))
        }
        // No answer in time may be the sign of too many calls.
        Verdict::Failed(Class::Timeout) => Pace::Throttled(None),
        Verdict::Answered | Verdict::Failed(_) | Verdict::Denied => Pace::Unknown,
    }
}
