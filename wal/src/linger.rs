//! The short wait of a leader for the rest of its group.
//!
//! With N writers in a loop and no wait, two groups of N/2 take turns and every record waits for two syncs. So a
//! leader waits until as many frames are pending as there are writers about: those that the last sync released and
//! those that were waiting behind it, smoothed. A lone writer never waits. The wait ends with the append that
//! completes the group, or after half of the last sync's time and at most `linger_max`; a wait that overran three times
//! its limit (a machine too busy to wake us) switches the waiting off for the next 64 syncs.

use std::time::Duration;

use akidb_host::Clock;

use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, lock, wait_timeout};

/// How many syncs go without a wait after one that overran.
const OFF_SYNCS: u32 = 64;
/// Frames are counted in sixteenths where they are smoothed.
const FRACTION: u64 = 16;

/// Counts frames that no sync has begun for, and lets a leader wait for more.
#[derive(Debug)]
pub(crate) struct Linger {
    limit: Duration,
    /// Frames appended since the last sync began. Changed under the append lock only.
    pending: AtomicU64,
    /// How many pending frames end the present wait; 0: nobody waits.
    target: AtomicU64,
    state: Mutex<State>,
    complete: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Smoothed number of writers, in sixteenths.
    writers: u64,
    last_sync: Duration,
    off_syncs: u32,
    waits: u64,
}

impl Linger {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            pending: AtomicU64::new(0),
            target: AtomicU64::new(0),
            state: Mutex::new(State::default()),
            complete: Condvar::new(),
        }
    }

    /// A frame was appended. Called under the append lock.
    pub(crate) fn add(&self) {
        // SeqCst on both sides: either we see the target, or the leader sees our frame.
        let pending = self.pending.fetch_add(1, Ordering::SeqCst) + 1;
        let target = self.target.load(Ordering::SeqCst);
        if target != 0 && pending == target {
            drop(lock(&self.state));
            self.complete.notify_one();
        }
    }

    /// A sync begins that covers all frames appended so far; how many those are. Called under the append lock.
    pub(crate) fn take(&self) -> u64 {
        self.pending.swap(0, Ordering::SeqCst)
    }

    /// The frames of a sync that took so long are on disk.
    pub(crate) fn synced(&self, frames: u64, took: Duration) {
        if self.limit.is_zero() {
            return;
        }
        let now = (frames + self.pending.load(Ordering::SeqCst)) * FRACTION;
        let mut state = lock(&self.state);
        state.last_sync = took;
        state.off_syncs = state.off_syncs.saturating_sub(1);
        // Up at once, so that a burst of writers joins in its second sync; down slowly.
        state.writers = if now > state.writers { now } else { (3 * state.writers + now) / 4 };
    }

    /// Waits until the group is complete.
    pub(crate) fn gather(&self, clock: &dyn Clock) {
        let mut state = lock(&self.state);
        let limit = self.limit.min(state.last_sync / 2);
        let target = (state.writers + FRACTION / 2) / FRACTION;
        if target < 2 || limit.is_zero() || state.off_syncs > 0 {
            return;
        }
        self.target.store(target, Ordering::SeqCst);
        let from = clock.now();
        let (mut waited, mut complete) = (Duration::ZERO, self.pending.load(Ordering::SeqCst) >= target);
        while !complete && waited < limit {
            state = wait_timeout(&self.complete, state, limit - waited);
            waited = clock.now().duration_since(from);
            complete = self.pending.load(Ordering::SeqCst) >= target;
        }
        self.target.store(0, Ordering::SeqCst);
        state.waits += 1;
        if waited > 3 * limit {
            state.off_syncs = OFF_SYNCS;
        }
        if !complete {
            // Whoever was expected has gone; a quarter at a time, so that one late writer changes little.
            let here = self.pending.load(Ordering::SeqCst) * FRACTION;
            state.writers = (3 * state.writers + here) / 4;
        }
    }

    /// How often a leader waited.
    pub(crate) fn waits(&self) -> u64 {
        lock(&self.state).waits
    }
}
