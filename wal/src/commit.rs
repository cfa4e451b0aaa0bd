//! Who syncs, and who is told: blocking callers lead a sync for everybody or follow one; async callers leave a
//! waker. Knows nothing of files: whoever leads is handed back to the log to do the sync itself.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use akidb_host::seeded_bug;

use crate::control::{Control, ControlState};
use crate::lsn::Lsn;
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, lock, wait};
use crate::wakers::{panic_of, wake_all};
use crate::watermark::Watermark;

pub(crate) type Callback = Arc<dyn Fn(Lsn) + Send + Sync>;

/// The synced watermark and everyone who waits for it.
#[derive(Debug)]
pub(crate) struct Commit {
    synced: Watermark,
    state: Mutex<State>,
    done: Condvar,
    /// `state.poison` is set.
    dead: AtomicBool,
    /// Nothing more will be synced: closed, or dropped.
    ended: AtomicBool,
    /// Where other processes see the watermark.
    pub(crate) control: Control,
}

#[derive(Default)]
struct State {
    leading: bool,
    /// The first failure; from then on the watermark stands still for ever.
    poison: Option<Arc<str>>,
    waiters: Vec<Waiter>,
    /// Readers of the tail: they are told like waiters, but nobody syncs for them.
    watchers: Vec<Waiter>,
    last_id: u64,
    /// Replaced as a whole, so that each sync takes them without an allocation.
    callbacks: Arc<[Callback]>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("leading", &self.leading)
            .field("poison", &self.poison)
            .field("waiters", &self.waiters.len())
            .finish_non_exhaustive()
    }
}

struct Waiter {
    id: u64,
    lsn: Lsn,
    waker: Waker,
}

/// What a caller that needs an LSN synced does next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing: it is synced.
    Done,
    /// Nothing: the log is poisoned.
    Poisoned(Arc<str>),
    /// Sync, then call [`Commit::finish`].
    Lead,
}

impl Commit {
    pub(crate) fn new(synced: Lsn, control: Control) -> Self {
        let synced = Watermark::new(synced);
        let (state, done) = (Mutex::new(State::default()), Condvar::new());
        Self { synced, state, done, dead: AtomicBool::new(false), ended: AtomicBool::new(false), control }
    }

    pub(crate) fn synced(&self) -> Lsn {
        self.synced.get()
    }

    /// Why nothing more is acknowledged, if so. Costs one load while all is well.
    pub(crate) fn poison(&self) -> Option<Arc<str>> {
        if !self.dead.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.state).poison.clone()
    }

    pub(crate) fn on_synced(&self, callback: Callback) {
        let mut state = lock(&self.state);
        state.callbacks = state.callbacks.iter().cloned().chain([callback]).collect();
    }

    /// Blocks until `lsn` is synced, the log is poisoned, or this caller must lead the next sync.
    pub(crate) fn turn(&self, lsn: Lsn) -> Turn {
        if self.synced() >= lsn {
            return Turn::Done;
        }
        let mut state = lock(&self.state);
        loop {
            if self.synced() >= lsn {
                return Turn::Done;
            }
            if let Some(cause) = &state.poison {
                return Turn::Poisoned(cause.clone());
            }
            if !state.leading {
                state.leading = !seeded_bug("leads_overlap");
                return Turn::Lead;
            }
            state = wait(&self.done, state);
        }
    }

    /// Leads if nobody does and the log is healthy; the caller then syncs and calls [`Commit::finish`].
    pub(crate) fn try_lead(&self) -> bool {
        let mut state = lock(&self.state);
        let free = !state.leading && state.poison.is_none();
        state.leading |= free;
        free
    }

    /// Blocks until nobody leads.
    pub(crate) fn wait_for_leader(&self) {
        let mut state = lock(&self.state);
        while state.leading {
            state = wait(&self.done, state);
        }
    }

    /// Called by the leader after each file it synced: everything up to `lsn` is on disk.
    pub(crate) fn raise(&self, lsn: Lsn) {
        self.synced.raise(lsn);
        self.control.raise(self.synced());
    }

    /// Ends a lead: tells everyone, with no lock held. True if async waiters are left.
    pub(crate) fn finish(&self, result: Result<(), Arc<str>>) -> bool {
        let (wakers, callbacks, left);
        let synced = self.synced();
        {
            let mut state = lock(&self.state);
            state.leading = false;
            if let Err(cause) = result {
                state.poison.get_or_insert(cause);
                self.dead.store(true, Ordering::Release);
            }
            let all = state.poison.is_some() && !seeded_bug("poison_not_told");
            let mut told = drain(&mut state.waiters, |w| all || w.lsn <= synced);
            told.extend(drain(&mut state.watchers, |w| all || w.lsn <= synced));
            wakers = told;
            if all {
                self.control.set_state(ControlState::Poisoned);
            }
            left = !state.waiters.is_empty();
            callbacks = Arc::clone(&state.callbacks);
        }
        if !seeded_bug("missing_notify") {
            self.done.notify_all();
        }
        let forgotten = usize::from(seeded_bug("forgotten_waker"));
        wake_all(wakers.into_iter().skip(forgotten).map(|w| w.waker));
        for callback in callbacks.iter() {
            if let Some(panic) = panic_of(|| callback(synced)) {
                // What it should have done with these records is not done, and nobody knows how much of it.
                self.poison_now(format!("who was told of a sync panicked: {panic}").into());
            }
        }
        left
    }

    /// Ends the writing life of the log outside a lead (a seal that could not be synced). With no lock held: it wakes.
    pub(crate) fn poison_now(&self, cause: Arc<str>) {
        self.poison_untold(cause);
        self.tell_of_poison();
    }

    /// As [`Commit::poison_now`] where a lock is held: once it is released, [`Commit::tell_of_poison`] is to be called.
    pub(crate) fn poison_untold(&self, cause: Arc<str>) {
        let mut state = lock(&self.state);
        state.poison.get_or_insert(cause);
        self.dead.store(true, Ordering::Release);
        self.control.set_state(ControlState::Poisoned);
    }

    /// Tells everyone who waits; who comes later sees the poison.
    pub(crate) fn tell_of_poison(&self) {
        let wakers = take_all(&mut lock(&self.state));
        self.done.notify_all();
        wake_all(wakers.into_iter().map(|w| w.waker));
    }

    /// Nothing will be synced any more: tells everyone who reads the tail.
    pub(crate) fn end(&self) {
        let wakers = {
            let mut state = lock(&self.state);
            self.ended.store(true, Ordering::Release);
            std::mem::take(&mut state.watchers)
        };
        self.done.notify_all();
        wake_all(wakers.into_iter().map(|w| w.waker));
    }

    /// Asked before [`Commit::synced`]: what is synced after a `true` was synced before it.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn is_news(&self, lsn: Lsn, state: &State) -> bool {
        self.synced() >= lsn || state.poison.is_some() || self.ended()
    }

    /// Blocks until `lsn` is synced or never will be.
    pub(crate) fn wait_for_news(&self, lsn: Lsn) {
        let mut state = lock(&self.state);
        while !self.is_news(lsn, &state) {
            state = wait(&self.done, state);
        }
    }

    /// Whether `lsn` is synced or never will be; else keeps the waker under `id` (a new one if it has none).
    pub(crate) fn watch(&self, lsn: Lsn, id: &mut Option<u64>, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut state = lock(&self.state);
        if self.is_news(lsn, &state) {
            drop(state);
            return true;
        }
        state.last_id += 1;
        let fresh = state.last_id;
        let before = keep(&mut state.watchers, fresh, lsn, id, waker);
        drop(state);
        drop(before);
        false
    }

    /// Drops a reader's waker.
    pub(crate) fn unwatch(&self, id: u64) {
        let left: Vec<_> = lock(&self.state).watchers.extract_if(.., |w| w.id == id).collect();
        drop(left);
    }

    /// Answers an async caller or keeps its waker under `id` (a new one if it has none).
    pub(crate) fn poll(&self, lsn: Lsn, id: &mut Option<u64>, waker: &Waker) -> Poll<Result<(), Arc<str>>> {
        if self.synced() >= lsn {
            return Poll::Ready(Ok(()));
        }
        let waker = waker.clone();
        let mut state = lock(&self.state);
        let answer = match &state.poison {
            _ if self.synced() >= lsn => Some(Ok(())),
            Some(cause) => Some(Err(cause.clone())),
            None => None,
        };
        if let Some(answer) = answer {
            drop(state);
            return Poll::Ready(answer);
        }
        state.last_id += 1;
        let fresh = state.last_id;
        let before = keep(&mut state.waiters, fresh, lsn, id, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Drops an async caller's waker.
    pub(crate) fn forget(&self, id: u64) {
        let everyone = seeded_bug("cancel_forgets_everyone");
        let left: Vec<_> = lock(&self.state).waiters.extract_if(.., |w| w.id == id || everyone).collect();
        drop(left);
    }

    pub(crate) fn has_waiters(&self) -> bool {
        !lock(&self.state).waiters.is_empty()
    }
}

fn drain(waiters: &mut Vec<Waiter>, mut ready: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
    if waiters.is_empty() {
        return Vec::new();
    }
    let (out, keep) = std::mem::take(waiters).into_iter().partition(|w| ready(w));
    *waiters = keep;
    out
}

fn take_all(state: &mut State) -> Vec<Waiter> {
    let mut all = std::mem::take(&mut state.waiters);
    all.append(&mut state.watchers);
    all
}

/// Keeps a waker under `id` if that is known, else under `fresh`. Gives the one that it replaces.
fn keep(
    waiters: &mut Vec<Waiter>,
    fresh: u64,
    lsn: Lsn,
    id: &mut Option<u64>,
    waker: Waker,
) -> Option<Waker> {
    if let Some(known) = id.and_then(|id| waiters.iter_mut().find(|w| w.id == id)) {
        known.lsn = lsn;
        return Some(std::mem::replace(&mut known.waker, waker));
    }
    *id = Some(fresh);
    waiters.push(Waiter { id: fresh, lsn, waker });
    None
}
