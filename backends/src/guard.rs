//! What stands between a backend and those who call it: its breakers, its limiter, its deadlines.
//!
//! A call passes three gates, in this order: the breaker of its kind says whether anything may be sent at all; the
//! limiter gives it a place when there is one; then, right before it is sent, it takes its permit.

mod held;
mod verdict;

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akidb_host::Clock;
use futures::future::{Either, select};
use object_store::Error;
use serde::Serialize;

use crate::breaker::{Breaker, BreakerStatus, Failure, Permit, Refused, Settled, State};
use crate::class::Op;
use crate::config::BreakerSettings;
use crate::limiter::{Entry, InFlight, Limiter, LimiterSettings, Pace, Place, Share};
use crate::retry::Sleep;
use crate::window::Window;
pub use held::Held;
use verdict::{Verdict, pace, verdict};

/// A throttled backend counts as failing once so large a share of its answers asks for less, in parts of a million.
const THROTTLED_PPM: u64 = 500_000;

/// The kinds of calls that fail apart from each other: each has its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Puts, parts, copies.
    Upload,
    /// Bytes and sizes of objects.
    Download,
    /// Names under a prefix, and removals.
    ListDelete,
}

impl CallKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Upload, Self::Download, Self::ListDelete];

    /// The kind of what is asked.
    #[must_use]
    pub fn of(op: Op) -> Self {
        match op {
            Op::Put | Op::Create | Op::Part | Op::Complete => Self::Upload,
            Op::Get | Op::Head => Self::Download,
            Op::List | Op::Delete => Self::ListDelete,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Upload => 0,
            Self::Download => 1,
            Self::ListDelete => 2,
        }
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upload => "upload",
            Self::Download => "download",
            Self::ListDelete => "list_delete",
        })
    }
}

/// How a guard is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuardSettings {
    /// The breakers; `None` lets every call through and counts none.
    pub breaker: Option<BreakerSettings>,
    /// The limiter.
    pub limiter: LimiterSettings,
}

/// The guard of one backend; shared by every [`crate::GuardedStore`] over it.
pub struct Guard {
    backend: String,
    breakers: [Arc<Breaker>; 3],
    limiter: Arc<Limiter>,
    /// Which answers asked for less.
    throttled: Window,
    minimum_calls: u64,
    honor_retry_after: bool,
    clock: Arc<dyn Clock>,
    origin: Instant,
    sleep: Arc<dyn Sleep>,
}

impl Guard {
    /// A guard for the backend of this name. `seed` is that of the breakers' jitter.
    #[must_use]
    pub fn new(
        backend: &str,
        settings: &GuardSettings,
        clock: Arc<dyn Clock>,
        sleep: Arc<dyn Sleep>,
        seed: u64,
    ) -> Arc<Self> {
        let of_breakers = settings.breaker.clone().unwrap_or_default();
        let breaker = |kind: CallKind| {
            let breaker = Breaker::new(&of_breakers, seed ^ (kind.index() as u64) << 56);
            if settings.breaker.is_none() {
                breaker.disable();
            }
            Arc::new(breaker)
        };
        Arc::new(Self {
            backend: backend.to_owned(),
            breakers: CallKind::ALL.map(breaker),
            limiter: Arc::new(Limiter::new(settings.limiter)),
            throttled: Window::new(of_breakers.window_duration_secs.saturating_mul(1_000)),
            minimum_calls: u64::from(of_breakers.minimum_calls),
            honor_retry_after: of_breakers.honor_retry_after,
            origin: clock.now(),
            clock,
            sleep,
        })
    }

    /// The breaker of a kind of calls, for operators: its times count from the making of this guard.
    #[must_use]
    pub fn breaker(&self, kind: CallKind) -> &Breaker {
        &self.breakers[kind.index()]
    }

    /// How the breaker of a kind of calls stands.
    #[must_use]
    pub fn status(&self, kind: CallKind) -> BreakerStatus {
        self.breaker(kind).status(self.now_ms())
    }

    /// When a call of this kind may be sent; zero if now. Asking changes nothing.
    #[must_use]
    pub fn ready_in(&self, kind: CallKind) -> Duration {
        self.breaker(kind).ready_in(self.now_ms())
    }

    /// Counts a failure of the backend that no single answer shows: stored bytes that are not those that were sent.
    pub(crate) fn fault(&self, op: Op) {
        let now_ms = self.now_ms();
        if let Ok(permit) = self.breaker(CallKind::of(op)).try_acquire(now_ms) {
            let settled = permit.failure(Failure::Fault, now_ms);
            self.tell(op, settled, None);
        }
    }

    /// Whether every breaker is closed, and how often they have opened so far: two equal answers that begin with `true`
    /// say that none was anything but closed in between.
    pub(crate) fn calm(&self) -> (bool, u64) {
        let totals = CallKind::ALL.map(|kind| self.status(kind));
        let closed = totals.iter().all(|status| status.state == State::Closed);
        (closed, totals.iter().map(|status| status.totals.opened).sum())
    }

    /// What a call of this kind would be refused with now, if it would be. Counts nothing.
    pub(crate) fn refusal(&self, kind: CallKind) -> Option<Error> {
        let status = self.status(kind);
        (!status.ready_in.is_zero()).then(|| {
            let refused = Refused { state: status.state, reason: status.reason, retry_in: status.ready_in };
            self.held(kind, refused)
        })
    }

    /// What is under way.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.limiter.in_flight()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let passed = self.clock.now().saturating_duration_since(self.origin);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }

    fn held(&self, kind: CallKind, refused: Refused) -> Error {
        let held = Held { backend: self.backend.clone(), kind, refused };
        Error::Generic { store: "guarded", source: Box::new(held) }
    }

    /// Leads a call that moves `len` bytes through the gates. Waits for a place, never for a breaker.
    pub(crate) async fn enter(self: &Arc<Self>, op: Op, len: u64, share: Share) -> Result<Pass, Error> {
        let kind = CallKind::of(op);
        let breaker = &self.breakers[kind.index()];
        let held = |refused| self.held(kind, refused);
        breaker.check(self.now_ms()).map_err(held)?;
        let quiet = self.limiter.quiet_for(self.now_ms());
        if !quiet.is_zero() {
            self.sleep.pause(quiet).await;
        }
        let place = Entry::new(Arc::clone(&self.limiter), len, share).await;
        // While this one waited the breaker may have opened.
        let started_ms = self.now_ms();
        let permit = Permit::acquire(Arc::clone(breaker), started_ms).map_err(held)?;
        Ok(Pass { permit, place: Some(place), guard: Arc::clone(self), op, started_ms })
    }

    /// Runs `call`, or ends it after `limit`: that counts as the backend's failure, not as a cancelled call.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match select(pin!(call), self.sleep.deadline(limit)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(timed_out(limit)),
        }
    }

    pub(crate) fn deadline(&self, limit: Duration) -> futures::future::BoxFuture<'static, ()> {
        self.sleep.deadline(limit)
    }

    /// Whether so many answers ask for less that the backend is as good as down.
    fn is_mostly_throttled(&self, verdict: Verdict, now_ms: u64) -> bool {
        let is_throttled = matches!(verdict, Verdict::Throttled(_));
        let _ = self.throttled.count(now_ms, 0, is_throttled, || true);
        if !is_throttled {
            return false;
        }
        let sum = self.throttled.sum(now_ms, 0);
        sum.total >= self.minimum_calls && sum.is_above(THROTTLED_PPM)
    }

    fn tell(&self, op: Op, settled: Settled, error: Option<&Error>) {
        let kind = CallKind::of(op);
        match settled {
            Settled::Opened(reason) => {
                let error = error.map(ToString::to_string).unwrap_or_default();
                tracing::warn!(backend = %self.backend, %kind, %reason, error, "breaker opened: no more calls for now");
            }
            Settled::Closed => tracing::info!(backend = %self.backend, %kind, "breaker closed"),
            Settled::Counted | Settled::Late => {}
        }
    }
}

/// A call that may be sent. Dropped without an end it was cancelled.
#[derive(Debug)]
pub(crate) struct Pass {
    permit: Permit<Arc<Breaker>>,
    place: Option<Place<Arc<Limiter>>>,
    guard: Arc<Guard>,
    op: Op,
    started_ms: u64,
}

impl Pass {
    /// Gives the place back before the end, for calls whose rest is not the backend's work.
    pub(crate) fn leave_place(&mut self) {
        if let Some(place) = self.place.take() {
            place.end(Pace::Well, self.started_ms, self.guard.now_ms());
        }
    }

    /// Says how the call ended.
    pub(crate) fn end(self, answer: Result<(), &Error>) {
        let verdict = answer.map_or_else(|error| verdict(error, self.op), |()| Verdict::Well);
        self.settle(verdict, answer);
    }

    /// As [`Pass::end`] for the abort of an upload in parts, which on S3 needs a right of its own: without it lists and
    /// deletes are as well as before.
    pub(crate) fn end_abort(self, answer: Result<(), &Error>) {
        let verdict = answer.map_or_else(|error| verdict(error, self.op), |()| Verdict::Well);
        let is_denied = verdict == Verdict::Denied && !self.permit.is_probe();
        self.settle(if is_denied { Verdict::Answered } else { verdict }, answer);
    }

    fn settle(self, verdict: Verdict, answer: Result<(), &Error>) {
        let now_ms = self.guard.now_ms();
        if let Some(place) = self.place {
            place.end(pace(verdict, self.guard.honor_retry_after), self.started_ms, now_ms);
        }
        let is_down = self.guard.is_mostly_throttled(verdict, now_ms);
        let settled = match verdict {
            Verdict::Well => self.permit.success(now_ms),
            // It answers: that is all a try after a cooldown wants to know.
            Verdict::Answered if self.permit.is_probe() => self.permit.success(now_ms),
            Verdict::Throttled(_) if is_down => self.permit.failure(Failure::Fault, now_ms),
            Verdict::Answered | Verdict::Throttled(_) => self.permit.ignore(now_ms),
            Verdict::Failed(_) => self.permit.failure(Failure::Fault, now_ms),
            Verdict::Denied => self.permit.failure(Failure::Auth, now_ms),
        };
        self.guard.tell(self.op, settled, answer.err());
    }
}

/// What a call without an answer ends with: by its type, [`Class::Timeout`].
pub(crate) fn timed_out(limit: Duration) -> Error {
    let said = format!("no answer within {} s", limit.as_secs());
    Error::Generic { store: "guarded", source: Box::new(io::Error::new(io::ErrorKind::TimedOut, said)) }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("backend", &self.backend)
            .field("breakers", &self.breakers)
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
