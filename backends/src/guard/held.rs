//! The error of a call that a breaker refused.

use std::fmt;
use std::time::Duration;

use super::CallKind;
use crate::breaker::{Reason, Refused, State};
use crate::class::Class;

/// A call that was not made: the breaker refused it. It stands in the sources of the store's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The backend's name.
    pub backend: String,
    /// Which of its breakers.
    pub kind: CallKind,
    /// What the breaker said.
    pub refused: Refused,
}

impl Held {
    pub(crate) fn retry_in(&self) -> Duration {
        self.refused.retry_in
    }

    pub(crate) fn class(&self) -> Class {
        if self.refused.reason == Some(Reason::Auth) { Class::Auth } else { Class::Refused }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was sent: the {} breaker of '{}' ", self.kind, self.backend)?;
        match (self.refused.state, self.refused.reason) {
            (State::HalfOpen, _) => write!(f, "tries a few calls first")?,
            (_, Some(reason)) => write!(f, "is open ({reason})")?,
            (_, None) => write!(f, "is open")?,
        }
        write!(f, "; it may be asked again in {:.1} s", self.refused.retry_in.as_secs_f64())
    }
}

impl std::error::Error for Held {}
