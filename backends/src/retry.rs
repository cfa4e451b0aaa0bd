//! Which failures are tried again, and when: typed classes and a pure schedule with full jitter.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::{Clock, Rng};
use futures::future::BoxFuture;

use crate::class::{Class, Op};
use crate::guard::Held;
use crate::refusal::Refusal;

/// The class of what a store answered to `op`. Never by the words of the message.
#[must_use]
pub fn classify(error: &object_store::Error, op: Op) -> Class {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => op.not_found(),
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

/// How long the server asked to be left alone, if the store could tell.
pub(crate) fn retry_after(error: &object_store::Error) -> Option<Duration> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Held>() {
            return Some(refused.retry_in());
        }
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return refusal.retry_after();
        }
        next = error.source();
    }
    None
}

fn classify_source(source: &(dyn StdError + 'static), op: Op) -> Class {
    let mut next = Some(source);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Held>() {
            return refused.class();
        }
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return refusal.class(op);
        }
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

/// The failed attempts of one call so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    failed: u32,
    throttled: u32,
}

/// Refusals of one call that do not count as attempts; then it is given up for now, and its plan waits.
const MAX_THROTTLED: u32 = 10;

impl Tries {
    /// Failed attempts so far; those that were throttled are not among them.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }
}

impl Schedule {
    /// Notes a failed attempt and gives the pause before the next, or `None` if this call gives up. Being throttled
    /// uses up no attempt. A server that says how long to wait is obeyed, within `throttle_cap`.
    #[must_use]
    pub fn next(
        &self,
        tries: &mut Tries,
        class: Class,
        retry_after: Option<Duration>,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let (base, cap, doublings) = match class {
            Class::Permanent | Class::Auth | Class::NotFound | Class::Local | Class::Refused => return None,
            Class::Throttle => {
                tries.throttled += 1;
                if tries.throttled > MAX_THROTTLED {
                    return None;
                }
                (self.throttle_base, self.throttle_cap, tries.throttled - 1)
            }
            Class::Transient | Class::Timeout | Class::Ambiguous | Class::Conflict => {
                tries.failed += 1;
                if tries.failed >= self.attempts {
                    return None;
                }
                (self.base, self.cap, tries.failed - 1)
            }
        };
        let bound = base.saturating_mul(2u32.saturating_pow(doublings)).min(cap);
        let asked = retry_after.unwrap_or_default().min(self.throttle_cap);
        Some(bound.mul_f64(rng.f64()).max(asked))
    }

    /// How long one call that moves `len` bytes may take: 5 s and a second for each MiB.
    #[must_use]
    pub fn deadline(len: u64) -> Duration {
        Duration::from_secs(5) + Duration::from_secs(len >> 20)
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

/// As [`TokioSleep`], with pauses in the time of a clock. Deadlines stay the machine's, so much work needs so long; but
/// those of a clock that moves only when told are its own, too.
#[derive(Clone, Debug)]
pub struct ClockSleep(pub Arc<dyn Clock>);

impl Sleep for ClockSleep {
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        let machine = || TokioSleep.pause(self.0.machine_time(time));
        self.0.timer(time).unwrap_or_else(machine)
    }

    fn deadline(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.timer(time).unwrap_or_else(|| TokioSleep.deadline(time))
    }
}

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

    fn next(schedule: Schedule, tries: &mut Tries, class: Class, rng: &mut Rng) -> Option<Duration> {
        schedule.next(tries, class, None, rng)
    }

    #[test]
    fn pauses_stay_under_their_doubling_bound_and_end_after_the_last_attempt() {
        let mut rng = Rng::seeded(1);
        let schedule = Schedule { attempts: 40, ..Schedule::default() };
        for _ in 0..50 {
            let mut tries = Tries::default();
            for failures in 1..40 {
                let bound = Duration::from_millis(50).saturating_mul(1 << (failures - 1).min(20));
                let pause = next(schedule, &mut tries, Class::Transient, &mut rng).unwrap();
                assert!(pause <= bound.min(Duration::from_secs(20)), "{failures}: {pause:?}");
            }
            assert_eq!(next(schedule, &mut tries, Class::Transient, &mut rng), None);
        }
        let mut tries = Tries::default();
        let pauses = [(); 3].map(|()| next(Schedule::default(), &mut tries, Class::Timeout, &mut rng));
        assert_eq!(pauses.map(|pause| pause.is_some()), [true, true, false]);
    }

    #[test]
    fn being_throttled_uses_up_no_attempt_and_does_not_go_on_for_ever() {
        let mut rng = Rng::seeded(1);
        let mut tries = Tries::default();
        for throttled in 0..10 {
            let pause = next(Schedule::default(), &mut tries, Class::Throttle, &mut rng).unwrap();
            assert!(pause <= Duration::from_secs(1 << throttled).min(Duration::from_secs(60)));
        }
        assert!(next(Schedule::default(), &mut tries, Class::Transient, &mut rng).is_some());
        assert_eq!(next(Schedule::default(), &mut tries, Class::Throttle, &mut rng), None);
    }

    #[test]
    fn a_server_that_says_how_long_to_wait_is_obeyed_up_to_a_minute() {
        let mut rng = Rng::seeded(1);
        for (asked, waits) in [(30, 30), (3_600, 60)] {
            let asked = Some(Duration::from_secs(asked));
            let pause = Schedule::default().next(&mut Tries::default(), Class::Throttle, asked, &mut rng);
            assert_eq!(pause, Some(Duration::from_secs(waits)));
        }
    }

    #[test]
    fn what_repeating_cannot_mend_is_not_repeated() {
        let mut rng = Rng::seeded(1);
        for class in [Class::Permanent, Class::Auth, Class::NotFound, Class::Local, Class::Refused] {
            let mut tries = Tries::default();
            assert_eq!(next(Schedule::default(), &mut tries, class, &mut rng), None, "{class:?}");
            assert_eq!(tries, Tries::default(), "{class:?} burns no attempt");
        }
    }

    #[test]
    fn the_deadline_grows_with_the_size() {
        assert_eq!(Schedule::deadline(0), Duration::from_secs(5));
        assert_eq!(Schedule::deadline(64 << 20), Duration::from_secs(69));
    }
}
