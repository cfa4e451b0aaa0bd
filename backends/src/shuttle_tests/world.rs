//! What the threads share, and what is counted and claimed in it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex};

use super::files::Files;
use super::store::{Answer, Store};
use super::{Plan, chance, draw};
use crate::breaker::{Breaker, Failure, Settled};
use crate::config::BreakerSettings;
use crate::dlq::{DlqSettings, Ledger, LetterId, Letters, Overflow};
use crate::queue::Queue;
use crate::sync::{Condvar, Mutex, wait};

pub(super) const BACKEND: &str = "s3";
/// Letters that drive each other out have no end before a person looks.
const TURNS_A_LOOK: u64 = 20;

/// A count that makes no schedule.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.more(1);
    }

    pub(super) fn more(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What happened in all schedules: what never does is not tested.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) opened: Count,
    pub(super) closed: Count,
    pub(super) late: Count,
    pub(super) cancelled: Count,
    pub(super) held: Count,
    pub(super) buried: Count,
    pub(super) unwritten: Count,
    pub(super) rejected: Count,
    pub(super) evicted: Count,
    pub(super) redriven: Count,
    pub(super) superseded: Count,
    pub(super) overtaken: Count,
    pub(super) slept: Count,
    pub(super) failed_writes: Count,
}

impl Seen {
    /// Fails for what never happened: nothing was shown of it.
    pub(super) fn everything(&self) {
        let text = format!("{self:?}");
        assert!(!text.contains("Count(0)"), "not everything happened: {text}");
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Answered(Answer),
    /// The breaker let nothing through.
    Held,
    /// Given up by us before the end.
    GivenUp,
}

#[derive(Default)]
pub(super) struct Standing {
    pub(super) published: u64,
    pub(super) turns: u64,
    /// The uploader waits for a person.
    pub(super) is_asleep: bool,
}

/// Permits by what became of them, as the callers know it.
#[derive(Default)]
pub(super) struct Permits {
    pub(super) issued: Count,
    pub(super) well: Count,
    pub(super) failed: Count,
    pub(super) ignored: Count,
    pub(super) cancelled: Count,
    pub(super) late: Count,
}

pub(super) struct World {
    pub(super) breaker: Breaker,
    pub(super) queue: Queue<Arc<Plan>>,
    pub(super) ledger: Ledger<Files>,
    pub(super) store: Store,
    pub(super) max_size: u32,
    pub(super) permits: Permits,
    pub(super) seen: Arc<Seen>,
    /// Files known to be on the backend.
    known: Mutex<BTreeSet<u32>>,
    /// Files that lie here.
    local: Mutex<BTreeSet<u32>>,
    standing: Mutex<Standing>,
    changed: Condvar,
    now_ms: AtomicI64,
    pub(super) last_id: AtomicU64,
    /// Letters somebody has a claim of.
    pub(super) claims: StdMutex<BTreeSet<LetterId>>,
}

impl World {
    /// A script drawn anew in each schedule.
    pub(super) fn new(files: impl Iterator<Item = u32>, seen: Arc<Seen>) -> Self {
        let local: BTreeSet<u32> = files.collect();
        let breaker = BreakerSettings {
            cooldown_duration_secs: 1,
            cooldown_jitter: 0.0,
            minimum_calls: 2,
            half_open_successes: 2,
            half_open_max_in_flight: super::TRIED_AT_ONCE,
            ..BreakerSettings::default()
        };
        let max_size = 1 + draw(3);
        let overflow = if chance(4) { Overflow::Reject } else { Overflow::EvictOldest };
        let letters = Letters::new(&DlqSettings { max_size, overflow, ..DlqSettings::default() });
        let bad = local.iter().copied().filter(|_| chance(3)).collect();
        Self {
            breaker: Breaker::new(&breaker, 0),
            queue: Queue::new(),
            ledger: Ledger::new(letters, 0, Files::failing(draw(4))),
            store: Store::new(draw(12), bad),
            max_size,
            permits: Permits::default(),
            seen,
            known: Mutex::new(BTreeSet::new()),
            local: Mutex::new(local),
            standing: Mutex::new(Standing::default()),
            changed: Condvar::new(),
            now_ms: AtomicI64::new(0),
            last_id: AtomicU64::new(0),
            claims: StdMutex::default(),
        }
    }

    /// Milliseconds of both clocks. Time passes between turns only.
    pub(super) fn now(&self) -> i64 {
        self.now_ms.load(Relaxed)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now().unsigned_abs()
    }

    pub(super) fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Relaxed);
    }

    pub(super) fn told(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock());
        self.changed.notify_all();
    }

    /// Waits until this plan is published, or a person is needed, or has not looked for long. `true` if it is published.
    pub(super) fn watch(&self, plan: u64) -> bool {
        let mut standing = self.standing.lock();
        let next_look = standing.turns + TURNS_A_LOOK;
        while standing.published < plan && !standing.is_asleep && standing.turns < next_look {
            standing = wait(&self.changed, standing);
        }
        standing.is_asleep = false;
        standing.published >= plan
    }

    /// Waits for the end of a turn, unless this plan is published.
    pub(super) fn wait_for_turn(&self, plan: u64) {
        let mut standing = self.standing.lock();
        let before = standing.turns;
        while standing.turns == before && standing.published < plan {
            standing = wait(&self.changed, standing);
        }
    }

    /// Takes files away that neither the newest plan nor one under way names; what is left.
    pub(super) fn remove_unwanted(&self, plans: &[Plan]) -> BTreeSet<u32> {
        let pinned = self.queue.pinned();
        let newest = plans.last().expect("one was offered").number;
        let is_kept = |plan: &&Plan| plan.number == newest || pinned.contains(&plan.number);
        let kept: BTreeSet<u32> =
            plans.iter().filter(is_kept).flat_map(|plan| &plan.files).copied().collect();
        let mut local = self.local.lock();
        local.retain(|file| kept.contains(file) || plans.iter().all(|plan| !plan.files.contains(file)));
        local.clone()
    }

    pub(super) fn missing(&self, plan: &Plan) -> BTreeSet<u32> {
        let known = self.known.lock();
        plan.files.iter().copied().filter(|file| !known.contains(file)).collect()
    }

    /// A call through the breaker.
    pub(super) fn call(&self, run: impl FnOnce(bool) -> Answer) -> Sent {
        let Ok(permit) = self.breaker.try_acquire(self.now_ms()) else {
            self.seen.held.add();
            return Sent::Held;
        };
        self.permits.issued.add();
        if chance(8) {
            self.permits.cancelled.add();
            return Sent::GivenUp;
        }
        let answer = run(permit.is_probe());
        let settled = match answer {
            Answer::Well => {
                self.permits.well.add();
                permit.success(self.now_ms())
            }
            Answer::Fault => {
                self.permits.failed.add();
                permit.failure(Failure::Fault, self.now_ms())
            }
            Answer::Refusal if permit.is_probe() => {
                self.permits.well.add();
                permit.success(self.now_ms())
            }
            Answer::Refusal => {
                self.permits.ignored.add();
                permit.ignore(self.now_ms())
            }
        };
        if settled == Settled::Late {
            self.permits.late.add();
        }
        Sent::Answered(answer)
    }

    pub(super) fn put(&self, file: u32) -> Sent {
        let read = || assert!(self.local.lock().contains(&file), "file {file} is gone while it is read");
        let sent = self.call(|is_tried| {
            read();
            let answer = self.store.put(file, is_tried);
            read();
            answer
        });
        if sent == Sent::Answered(Answer::Well) {
            self.known.lock().insert(file);
        }
        sent
    }
}
