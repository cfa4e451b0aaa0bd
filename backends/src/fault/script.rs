//! What goes wrong, and with which call: the pure part of the store of faults.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::Rng;
use object_store::Error;
use object_store::path::Path;

use super::stale::History;
use crate::class::Op;
use crate::guard::CallKind;
use crate::refusal::Refusal;
use crate::retry::Sleep;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this; nothing is applied.
    Fail(Cause),
    /// Applied, then the answer is lost or replaced by this.
    ApplyThenFail(Cause),
    /// Puts and parts: stored with one bit flipped, and reported as fine. Gets: read with one bit flipped.
    Flip,
    /// Puts and parts: the first half is stored, and reported as fine.
    Tear,
    /// Never answers; nothing is applied.
    Hang,
    /// Goes well, so much later (by the store's [`Sleep`], see [`super::FaultStore::set_latency`]).
    Late(Duration),
}

/// What a failing call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection was reset.
    Reset,
    /// No answer in time.
    Timeout,
    /// Nobody listens.
    Refused,
    /// 403.
    Denied,
    /// 409 or 412: something is there already.
    Exists,
    /// 404.
    NotFound,
    /// Another HTTP status, and when to come back.
    Status(u16, Option<Duration>),
    /// Nothing: the call panics.
    Panic,
    /// An HTTP status with a server's own name for what is wrong.
    Named(u16, &'static str),
}

impl Cause {
    /// 503 SlowDown without `Retry-After`.
    pub const SLOW_DOWN: Self = Self::Status(503, None);

    pub(super) fn error(self, path: &Path) -> Error {
        let generic = |source| Error::Generic { store: "fault", source };
        let refused = |refusal: Refusal| generic(Box::new(refusal.of_request(Some("scripted-request"))));
        let io = |kind| generic(Box::new(io::Error::from(kind)));
        let (path, source) = (path.to_string(), "scripted".into());
        match self {
            Self::Reset => io(io::ErrorKind::ConnectionReset),
            Self::Timeout => io(io::ErrorKind::TimedOut),
            Self::Refused => io(io::ErrorKind::ConnectionRefused),
            Self::Denied => Error::PermissionDenied { path, source },
            Self::Exists => Error::AlreadyExists { path, source },
            Self::NotFound => Error::NotFound { path, source },
            Self::Status(status, retry_after) => {
                refused(Refusal::new(status, retry_after, "scripted".to_owned()))
            }
            Self::Named(status, name) => {
                refused(Refusal::new(status, None, format!("<Error><Code>{name}</Code></Error>")))
            }
            Self::Panic => panic!("scripted"),
        }
    }
}

/// A call that was made, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub op: Op,
    /// Of which object.
    pub key: String,
    /// What the script did to it.
    pub fault: Option<Fault>,
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) rules: VecDeque<Rule>,
    pub(super) dead: Option<Cause>,
    /// What one call meets, by its number.
    pub(super) at: Option<(usize, Fault)>,
    /// What every put on such keys meets.
    pub(super) poison: Option<(String, Fault)>,
    pub(super) lying: bool,
    pub(super) seeded: Option<(Rng, f64)>,
    pub(super) pattern: Option<(u64, Cause)>,
    /// Calls that met the pattern, by kind: each kind has a breaker of its own.
    pub(super) met: [u64; 3],
    pub(super) latency: Option<(Arc<dyn Sleep>, Duration)>,
    pub(super) stale: History,
    pub(super) calls: Vec<Call>,
}

pub(super) struct Rule {
    pub(super) op: Op,
    pub(super) key_part: String,
    pub(super) skip: u64,
    pub(super) fault: Fault,
}

impl Script {
    /// Notes a call and finds what shall happen to it.
    pub(super) fn meet(&mut self, op: Op, path: &Path) -> Option<Fault> {
        let fault = self.fault(op, path);
        self.calls.push(Call { op, key: path.to_string(), fault });
        fault
    }

    fn fault(&mut self, op: Op, path: &Path) -> Option<Fault> {
        if let Some((_, fault)) = self.at.take_if(|(number, _)| *number == self.calls.len()) {
            return Some(fault);
        }
        if let Some(cause) = self.dead {
            return Some(Fault::Fail(cause));
        }
        let matching = |rule: &Rule| rule.op == op && path.as_ref().contains(&rule.key_part);
        if let Some(at) = self.rules.iter().position(matching) {
            if self.rules[at].skip == 0 {
                return self.rules.remove(at).map(|rule| rule.fault);
            }
            self.rules[at].skip -= 1;
        }
        if let Some((key_part, fault)) = &self.poison
            && op == Op::Put
            && path.as_ref().contains(key_part)
        {
            return Some(*fault);
        }
        if let Some((fails, cause)) = self.pattern {
            let met = &mut self.met[CallKind::of(op) as usize];
            let at = *met % 100;
            *met += 1;
            return ((at + 1) * fails / 100 > at * fails / 100).then_some(Fault::Fail(cause));
        }
        let (rng, p) = self.seeded.as_mut()?;
        if rng.f64() >= *p {
            return None;
        }
        Some(match rng.below(6) {
            0 => Fault::Fail(Cause::Reset),
            1 => Fault::Fail(Cause::Refused),
            2 => Fault::Fail(Cause::Timeout),
            3 if op == Op::Put => Fault::Flip,
            3 | 4 => Fault::ApplyThenFail(Cause::Reset),
            _ => Fault::ApplyThenFail(Cause::Timeout),
        })
    }
}
