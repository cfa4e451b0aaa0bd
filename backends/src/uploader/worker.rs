//! The uploader's thread: turn by turn it heals, puts, buries, redrives and commits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akidb_host::{Work, seeded_bug};
use tracing::{Instrument, Span};

use super::UploaderParts;
use super::letters::Letters;
use super::shared::Shared;
use super::wait::{Then, pause, unless_stopped};
use crate::client::Client;
use crate::dlq::LetterId;
use crate::error::{Error, ErrorKind, Result};
use crate::gc::SweepSettings;
use crate::guard::CallKind;
use crate::multiparts::Multiparts;
use crate::plan::{FilePlan, PlanItem};
use crate::publish::{Published, Publisher};
use crate::queue::{Next, Queue, Turn};

/// First pause after a plan failed; doubles to [`PLAN_PAUSE_CAP`].
const PLAN_PAUSE: Duration = Duration::from_secs(1);
const PLAN_PAUSE_CAP: Duration = Duration::from_secs(60);
/// A breaker that may be asked again at once is not asked in a loop.
pub(super) const PLAN_PAUSE_LEAST: Duration = Duration::from_millis(100);
/// Parked files are looked through this often: a note without a letter has no bell.
const PARKED_LOOK: Duration = Duration::from_secs(60);

/// So many plans in a row may give way to newer ones that no longer name what they were about to put, because it was
/// merged into something else. The next is put whole, or a backend slower than the merges would never get a document.
const MOST_PASSED_OVER: u32 = 2;

/// A plan under way.
pub(super) type PlanTurn<'s> = Turn<&'s Queue<Arc<FilePlan>>, Arc<FilePlan>>;

pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) publisher: Publisher,
    pub(super) shared: Arc<Shared>,
    remote_commit_interval: Duration,
    pub(super) multiparts: Option<Arc<Multiparts>>,
    pub(super) sweep: Option<SweepSettings>,
    pub(super) next_sweep: Option<Instant>,
    /// Letters to try now, whatever their timers say: a breaker has just closed.
    pub(super) revived: VecDeque<LetterId>,
    /// Plans in a row that gave way to newer ones.
    passed_over: u32,
}

/// What came of a plan's turn.
enum Outcome {
    Published(Published),
    /// Everything that may be tried was; the rest waits for a letter's time. Its error is the last letter's.
    Parked(Option<Error>),
    /// More letters are due, or a newer plan is there.
    GoOn,
}

impl Worker {
    pub(super) fn new(parts: UploaderParts) -> Self {
        let UploaderParts { client, fs, clock, identity, known, options, .. } = parts;
        let letters = Letters::new(client.name(), parts.letters, Arc::clone(&clock));
        let mut publisher = Publisher::new(client.clone(), fs, Arc::clone(&clock), identity, known, options);
        if let Some(multiparts) = &parts.multiparts {
            publisher = publisher.with_multiparts(Arc::clone(multiparts));
        }
        if let Some(memory) = parts.memory {
            publisher = publisher.with_memory(memory);
        }
        let known = publisher.known();
        let next_sweep = parts.sweep.as_ref().map(|sweep| clock.now() + sweep.interval);
        let shared = Arc::new(Shared::new(client.name(), known, letters, clock, parts.on_change));
        Self {
            client,
            publisher,
            shared,
            remote_commit_interval: parts.remote_commit_interval,
            multiparts: parts.multiparts,
            sweep: parts.sweep,
            next_sweep,
            revived: VecDeque::new(),
            passed_over: 0,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// All it will ever do. That it is over is told also if it is never polled.
    pub(super) fn into_work(self) -> Box<dyn FnOnce() -> Work + Send> {
        let ended = Ended(Arc::clone(&self.shared));
        let work = |worker: Self, ended| async move {
            let _ended: Ended = ended;
            worker.turns().await;
        };
        Box::new(move || Box::pin(work(self, ended)))
    }

    async fn turns(mut self) {
        let (shared, sleep) = (Arc::clone(&self.shared), Arc::clone(self.client.sleep()));
        loop {
            let Some(then) = unless_stopped(&shared, self.turn()).await else { return };
            match then {
                Then::Stop => return,
                Then::Again => {}
                Then::Pause(time) => pause(&shared, &*sleep, time, false).await,
                Then::Until(time) => pause(&shared, &*sleep, time, true).await,
                Then::Idle => shared.queue.bell().await,
            }
        }
    }

    /// Does what is due now. Dropped half-way it loses nothing.
    pub(super) async fn turn(&mut self) -> Then {
        let shared = Arc::clone(&self.shared);
        if shared.standing().status.refused.is_some() {
            return if shared.queue.is_stopping() { Then::Stop } else { Then::Idle };
        }
        if self.heal().await {
            self.revived = shared.letters.dead();
        }
        self.sweep_if_due().await;
        self.abort_leftovers().await;
        match Queue::next(&shared.queue) {
            Next::Stop => Then::Stop,
            Next::Work(turn) => {
                let done = self.work_on(&turn).await;
                drop(turn);
                self.note(done)
            }
            Next::Idle if shared.standing().status.remote_number.is_none() => {
                let claimed = match self.refusal(&CallKind::ALL) {
                    Some(held) => Err(held),
                    None => self.publisher.claim().await,
                };
                self.note(claimed.map(|()| Outcome::GoOn))
            }
            Next::Idle => self.idle(),
        }
    }

    /// One turn of a plan: puts what may be put, buries what failed for good, redrives what is due, commits a whole.
    async fn work_on(&mut self, turn: &PlanTurn<'_>) -> Result<Outcome> {
        let span = self.publisher.span(turn.plan());
        self.work_in(turn, &span).instrument(span.clone()).await
    }

    async fn work_in(&mut self, turn: &PlanTurn<'_>, span: &Span) -> Result<Outcome> {
        let plan = turn.plan();
        let claimed = self.publisher.newest().is_some();
        if let Some(held) = self.refusal(&CallKind::ALL[..if claimed { 2 } else { 3 }]) {
            return Err(held);
        }
        let shared = Arc::clone(&self.shared);
        let missing = self.publisher.prepare(plan).await?;
        shared.letters.supersede(&missing);
        let free = missing.iter().copied().filter(|item| shared.letters.is_free(&item.key)).collect();
        let dwells = self.passed_over >= MOST_PASSED_OVER;
        let pointless = |item: &PlanItem| {
            shared.queue.is_stopping() || !dwells && turn.newer().is_some_and(|newer| !newer.names(item))
        };
        let round = self.publisher.put_items(free, &pointless, span).await;
        shared.change(|status| {
            status.files_put += round.files_put;
            status.bytes_put += round.bytes_put;
            // While files go up, those that do not are no reason for longer and longer pauses.
            status.failures = if round.files_put > 0 { 0 } else { status.failures };
        });
        let not_tried = round.not_tried;
        self.passed_over = if not_tried > 0 { self.passed_over + 1 } else { 0 };
        let buried = self.bury(plan.local_number, round.failed).await;
        // One that does not count keeps no letter from its time, unless nothing goes up at all.
        let more = not_tried > 0 || (!buried.is_over && self.redrive(turn, &missing).await?);
        if let Some(left) = buried.left {
            return Err(left);
        }
        if self.publisher.has_all(plan) || seeded_bug("document_before_its_files") {
            let remote_number = self.publisher.commit(plan).await?;
            shared.letters.supersede(&[]);
            let (files_put, bytes_put) = (round.files_put, round.bytes_put);
            let local_number = plan.local_number;
            return Ok(Outcome::Published(Published { local_number, remote_number, files_put, bytes_put }));
        }
        Ok(if more || turn.is_over() { Outcome::GoOn } else { Outcome::Parked(buried.last) })
    }

    /// Writes down what came of a turn, and says what comes next.
    fn note(&mut self, done: Result<Outcome>) -> Then {
        let newest = self.publisher.newest();
        let mut then = Then::Again;
        let shared = Arc::clone(&self.shared);
        shared.change(|status| {
            // What an earlier open published does not count as ours: the directory may have been restored
            // from an older copy, whose numbers mean other manifests.
            if let Some((remote, _)) = newest {
                status.remote_number = Some(remote);
            }
            match done {
                Ok(Outcome::GoOn) => (status.failures, status.last_error) = (0, None),
                Ok(Outcome::Published(published)) => {
                    (status.failures, status.last_error) = (0, None);
                    status.published_local_number = Some(published.local_number);
                    shared.queue.done(published.local_number);
                    then = Then::Pause(self.remote_commit_interval);
                }
                Ok(Outcome::Parked(buried)) => {
                    status.failures = 0;
                    status.last_error = buried.or(status.last_error.take());
                    let due = shared.letters.next_due().unwrap_or(PARKED_LOOK);
                    then = Then::Until(due.clamp(PLAN_PAUSE_LEAST, PARKED_LOOK));
                }
                // Nothing was sent, or nothing more will be until the credentials are looked at: no attempt is burnt.
                Err(error) if error.is_held() => {
                    tracing::debug!(backend = %shared.backend, %error, "upload waits for the breaker");
                    then = Then::Until(error.retry_after().unwrap_or(PLAN_PAUSE).max(PLAN_PAUSE_LEAST));
                    status.last_error = Some(error);
                }
                Err(error) => {
                    tracing::warn!(backend = %shared.backend, %error, "upload failed; it will be tried again");
                    status.failures = status.failures.saturating_add(1);
                    then = Then::Pause(self.backoff(status.failures));
                    status.last_error = Some(error.clone());
                    if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Conflict) {
                        status.refused = Some(error);
                        if let Some(plan) = shared.queue.target() {
                            shared.count_lacking(status, &plan);
                        }
                        shared.queue.done(u64::MAX);
                        then = Then::Again;
                    }
                }
            }
        });
        then
    }

    fn backoff(&self, failures: u32) -> Duration {
        let bound =
            PLAN_PAUSE.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(PLAN_PAUSE_CAP);
        bound.mul_f64(0.5 + self.client.random_fraction() / 2.0)
    }
}

/// Tells those who wait that the thread is over, however it ends.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}
