//! Which failures are tried again, and when: typed classes and a pure schedule with full jitter.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use akidb_host::Rng;
use futures::future::BoxFuture;

/// How a failed call is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Did not arrive, or the server had a bad moment.
    Transient,
    /// The server asks for less.
    Throttle,
    /// No answer within the deadline; the call can be repeated as it is.
    Timeout,
    /// No usable answer to a call that may not simply be repeated: look first.
    Ambiguous,
    /// A condition was not met; for a create, look whose object is there.
    Conflict,
    /// Repeating cannot help.
    Permanent,
    /// Credentials or rights.
    Auth,
    /// The object (or its bucket) is not there.
    NotFound,
    /// Our own file could not be read or failed its checksum.
    Local,
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Bytes of an object.
    Get,
    /// An object's size and date.
    Head,
    /// Names under a prefix.
    List,
    /// Store, replacing what was there.
    Put,
    /// Store unless something is there.
    Create,
    /// One part of a multipart upload, or its start.
    Part,
    /// The end of a multipart upload.
    Complete,
    /// Remove.
    Delete,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::Create => "conditional put",
            Self::Part => "multipart put",
            Self::Complete => "multipart completion",
            Self::Delete => "delete",
        })
    }
}

impl Op {
    /// Whether a lost answer leaves open what a repetition would do.
    #[must_use]
    pub fn is_ambiguous_without_answer(self) -> bool {
        matches!(self, Self::Create | Self::Complete)
    }

    fn unanswered(self, otherwise: Class) -> Class {
        if self.is_ambiguous_without_answer() { Class::Ambiguous } else { otherwise }
    }
}

/// The class of what a store answered to `op`. Never by the words of the message.
#[must_use]
pub fn classify(error: &object_store::Error, op: Op) -> Class {
    use object_store::Error as E;
    match error {
        // A completion that was applied, and whose answer was lost, meets "no such upload" when repeated.
        E::NotFound { .. } => op.unanswered_not_found(),
        E::AlreadyExists { .. } | E::Precondition { .. } => Class::Conflict,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Class::Auth,
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::NotModified { .. }
        | E::UnknownConfigurationKey { .. } => Class::Permanent,
        E::Generic { source, .. } => classify_source(source.as_ref(), op),
        _ => op.unanswered(Class::Transient),
    }
}

impl Op {
    fn unanswered_not_found(self) -> Class {
        if self == Self::Complete { Class::Ambiguous } else { Class::NotFound }
    }
}

/// How long the server asked to be left alone, if the store could tell.
pub(crate) fn retry_after(error: &object_store::Error) -> Option<Duration> {
    let mut next = error.source();
    while let Some(error) = next {
        #[cfg(feature = "s3")]
        if let Some(time) = crate::s3::retry_after(error) {
            return Some(time);
        }
        next = error.source();
    }
    None
}

fn classify_source(source: &(dyn StdError + 'static), op: Op) -> Class {
    let mut next = Some(source);
    while let Some(error) = next {
        #[cfg(feature = "s3")]
        if let Some(class) = crate::s3::classify_http(error, op) {
            return class;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return classify_io(error.kind(), op);
        }
        next = error.source();
    }
    op.unanswered(Class::Transient)
}

fn classify_io(kind: io::ErrorKind, op: Op) -> Class {
    match kind {
        io::ErrorKind::PermissionDenied => Class::Auth,
        // It never arrived, so nothing is open.
        io::ErrorKind::ConnectionRefused => Class::Transient,
        io::ErrorKind::TimedOut => op.unanswered(Class::Timeout),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Class::Permanent,
        _ => op.unanswered(Class::Transient),
    }
}

/// When the next attempt is made: full jitter over a doubling bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Attempts of one call, the first included. Default 3.
    pub attempts: u32,
    /// Bound of the first pause. Default 50 ms.
    pub base: Duration,
    /// Bound of any pause. Default 20 s.
    pub cap: Duration,
    /// Bound of the first pause after being throttled: a refusal says the endpoint is over its limit, while a
    /// reset can be retried at once. Default 1 s.
    pub throttle_base: Duration,
    /// Bound of any pause after being throttled. Default 60 s.
    pub throttle_cap: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_millis(50),
            cap: Duration::from_secs(20),
            throttle_base: Duration::from_secs(1),
            throttle_cap: Duration::from_secs(60),
        }
    }
}

impl Schedule {
    /// The pause before the next attempt after `failures` failed ones (counted from 1), or `None` if this
    /// call gives up.
    #[must_use]
    pub fn pause(&self, class: Class, failures: u32, rng: &mut Rng) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let (base, cap) = match class {
            Class::Permanent | Class::Auth | Class::NotFound | Class::Local => return None,
            Class::Throttle => (self.throttle_base, self.throttle_cap),
            Class::Transient | Class::Timeout | Class::Ambiguous | Class::Conflict => (self.base, self.cap),
        };
        let bound = base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(cap);
        Some(bound.mul_f64(rng.f64()))
    }

    /// How long one call that moves `len` bytes may take: 10 s and a second for each MiB.
    #[must_use]
    pub fn deadline(len: u64) -> Duration {
        Duration::from_secs(10) + Duration::from_secs(len >> 20)
    }
}

/// The one place where this crate waits. Tests replace it.
pub trait Sleep: Send + Sync + fmt::Debug {
    /// Waits before a further attempt.
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Ends when a call has taken too long.
    fn deadline(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// Waits by the timer of the tokio runtime it runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSleep;

#[expect(clippy::disallowed_methods, reason = "the one place of this crate that waits for time to pass")]
impl Sleep for TokioSleep {
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn deadline(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "t", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn a_message_that_contains_404_is_not_a_missing_object() {
        let error = object_store::Error::Generic { store: "t", source: "404 403 Not Found".into() };
        assert_eq!(classify(&error, Op::Put), Class::Transient);
        assert_eq!(classify(&error, Op::Create), Class::Ambiguous);
    }

    #[test]
    fn a_lost_answer_is_ambiguous_only_where_repeating_is_not_the_same() {
        for (op, class) in [
            (Op::Create, Class::Ambiguous),
            (Op::Complete, Class::Ambiguous),
            (Op::Put, Class::Timeout),
            (Op::Get, Class::Timeout),
            (Op::Delete, Class::Timeout),
        ] {
            assert_eq!(classify(&generic(io::ErrorKind::TimedOut), op), class, "{op}");
        }
        assert_eq!(classify(&generic(io::ErrorKind::ConnectionRefused), Op::Create), Class::Transient);
        assert_eq!(classify(&generic(io::ErrorKind::PermissionDenied), Op::Put), Class::Auth);
    }

    #[test]
    fn pauses_stay_under_their_doubling_bound_and_end_after_the_last_attempt() {
        let mut rng = Rng::seeded(1);
        let schedule = Schedule { attempts: 40, ..Schedule::default() };
        for failures in 1..40 {
            let bound = Duration::from_millis(50).saturating_mul(1 << (failures - 1).min(20));
            for _ in 0..50 {
                let pause = schedule.pause(Class::Transient, failures, &mut rng).unwrap();
                assert!(pause <= bound.min(Duration::from_secs(20)), "{failures}: {pause:?}");
                let pause = schedule.pause(Class::Throttle, failures, &mut rng).unwrap();
                assert!(pause <= Duration::from_secs(60));
            }
        }
        assert_eq!(schedule.pause(Class::Transient, 40, &mut rng), None);
        assert_eq!(Schedule::default().pause(Class::Transient, 3, &mut rng), None);
    }

    #[test]
    fn what_repeating_cannot_mend_is_not_repeated() {
        let mut rng = Rng::seeded(1);
        for class in [Class::Permanent, Class::Auth, Class::NotFound, Class::Local] {
            assert_eq!(Schedule::default().pause(class, 1, &mut rng), None, "{class:?}");
        }
    }

    #[test]
    fn the_deadline_grows_with_the_size() {
        assert_eq!(Schedule::deadline(0), Duration::from_secs(10));
        assert_eq!(Schedule::deadline(64 << 20), Duration::from_secs(74));
    }
}
