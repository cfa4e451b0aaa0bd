//! The part of a budget that one database has: what it takes, waits for and gives back first.

use std::sync::Weak;
use std::time::Duration;

use akidb_host::{Ticker, seeded_bug};

use super::{Charge, MemoryBudget, MemoryUse, Shared};
use crate::sync::Arc;

/// What takes more than this is held before it is allocated; below it writes and reads under way are not counted.
const LARGE_BYTES: u64 = 64 << 10;
/// How long a wait lasts before it looks again without having been called.
pub(super) const SLICE: Duration = Duration::from_millis(10);

/// The part that one database has in a budget.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    budget: MemoryBudget,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.budget.shared.state.lock();
        state.change(self.number, |owner| owner.is_ended = true);
        state.accounts.remove(&self.number);
    }
}

impl Account {
    pub(super) fn new(budget: MemoryBudget, number: u64) -> Self {
        Self { open: Arc::new(Open { budget, number }) }
    }

    /// Which one of its budget it is.
    pub(super) fn number(&self) -> u64 {
        self.open.number
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.open.budget.shared
    }

    /// The budget it is of.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.open.budget
    }

    /// What a use may hold at most, of those that wait.
    pub(crate) fn share(&self, usage: MemoryUse) -> u64 {
        self.shared().share(usage)
    }

    /// Takes bytes without asking: for what is in memory already, and for what gives memory back. Never waits, and may pass
    /// the limit.
    pub(crate) fn charge(&self, usage: MemoryUse, bytes: u64) -> Charge {
        if usage == MemoryUse::Flushes
            && seeded_bug("flush_waits_for_memory")
            && let Some(charge) = self.charge_within(usage, bytes, Duration::from_secs(10), &|| true)
        {
            return charge;
        }
        self.shared().state.lock().add(self.open.number, usage, bytes);
        Charge::new(self, usage, bytes)
    }

    /// As [`Account::charge`], if they are so many that a buffer of them counts by itself.
    pub(crate) fn charge_large(&self, usage: MemoryUse, bytes: u64) -> Option<Charge> {
        (bytes > LARGE_BYTES).then(|| self.charge(usage, bytes))
    }

    /// Takes bytes, if they fit in the limit and in the share of their use.
    pub(crate) fn try_charge(&self, usage: MemoryUse, bytes: u64) -> Option<Charge> {
        let mut state = self.shared().state.lock();
        self.shared().fits(&state, usage, bytes).then(|| state.add(self.open.number, usage, bytes))?;
        drop(state);
        Some(Charge::new(self, usage, bytes))
    }

    /// As [`Account::try_charge`], and waits until they fit, for about `patience` at most and while `go_on` says so. Only for
    /// callers that hold no charge yet.
    pub(crate) fn charge_within(
        &self,
        usage: MemoryUse,
        bytes: u64,
        patience: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Charge> {
        let (shared, mut left) = (self.shared(), patience);
        let mut state = shared.state.lock();
        if !shared.fits(&state, usage, bytes) {
            state.uses[usage as usize].waits += 1;
        }
        while !shared.fits(&state, usage, bytes) {
            if left.is_zero() || !go_on() {
                return None;
            }
            let slice = left.min(SLICE);
            let (woken, _) = shared.released.wait_timeout(state, slice);
            state = woken;
            // Called or not: memory that comes and goes for others must not keep this one for ever.
            left = left.saturating_sub(slice);
            let micros = u64::try_from(slice.as_micros()).unwrap_or(u64::MAX);
            state.uses[usage as usize].waited_micros += micros;
        }
        state.add(self.open.number, usage, bytes);
        drop(state);
        Some(Charge::new(self, usage, bytes))
    }

    /// What [`Account::try_charge`] would grant now at most.
    pub(crate) fn room(&self, usage: MemoryUse) -> u64 {
        let (shared, state) = (self.shared(), self.shared().state.lock());
        let of_limit = shared.limit.saturating_sub(shared.firm(&state));
        of_limit.min(shared.share(usage).saturating_sub(state.of(usage).bytes))
    }

    /// What snapshots of this database may hold: the share that others leave, and an equal part of it in any case.
    pub(crate) fn room_for_snapshots(&self) -> u64 {
        let (share, state) = (self.share(MemoryUse::Snapshots), self.shared().state.lock());
        let own = state.accounts.get(&self.open.number).map_or(0, |owner| owner.snapshots);
        let others = state.of(MemoryUse::Snapshots).bytes.saturating_sub(own);
        share.saturating_sub(others).max(share / state.accounts.len().max(1) as u64)
    }

    /// The largest write that finds room where nothing else is held.
    pub(crate) fn largest_write(&self) -> u64 {
        self.shared().writers_limit()
    }

    /// Whether a write to this database that takes about so many bytes has to wait.
    pub(crate) fn holds_back(&self, bytes: u64) -> bool {
        let (shared, state) = (self.shared(), self.shared().state.lock());
        let is_failing = state.accounts.get(&self.open.number).is_some_and(|owner| owner.is_failing);
        shared.holds_back(&state, bytes) || is_failing && shared.firm(&state) + bytes > shared.writers_limit()
    }

    /// Notes that a write of so many bytes found no room: memtables are flushed until it does.
    pub(crate) fn want(&self, bytes: u64) {
        let mut state = self.shared().state.lock();
        state.wanted = state.wanted.max(bytes.max(1));
        drop(state);
        self.call_first();
    }

    /// Notes that a write waited for memory, and how long.
    pub(crate) fn note_waited(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let mut state = self.shared().state.lock();
        let used = &mut state.uses[MemoryUse::Memtables as usize];
        used.waits += 1;
        used.waited_micros += micros;
    }

    /// Bytes beyond the limit that caches should give back.
    pub(crate) fn excess(&self) -> u64 {
        let shared = self.shared();
        let state = shared.state.lock();
        shared.beside_caches(&state).saturating_sub(shared.limit)
    }

    /// Whether this database is to flush for the sake of memory: there is too little, and it holds the most.
    pub(crate) fn is_asked(&self) -> bool {
        let state = self.shared().state.lock();
        self.shared().is_over(&state) && state.first_to_give() == Some(self.open.number)
    }

    /// Whether this database is to flush before it takes anything more: writers wait or would, and it holds the most.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.shared().state.lock();
        self.shared().holds_back(&state, state.wanted.max(1))
            && state.first_to_give() == Some(self.open.number)
    }

    /// Wakes the driver of the database that is to flush for the sake of memory, if there is too little.
    pub(crate) fn call_first(&self) {
        let state = self.shared().state.lock();
        if !self.shared().is_over(&state) {
            return;
        }
        let first = state.first_to_give().and_then(|number| state.accounts.get(&number)?.driver.clone());
        drop(state);
        if let Some(driver) = first.and_then(|driver| driver.upgrade()) {
            driver.wake();
        }
    }

    /// The loop that flushes this database.
    pub(crate) fn set_driver(&self, driver: Weak<dyn Ticker>) {
        self.shared().state.lock().change(self.open.number, |owner| owner.driver = Some(driver));
    }

    /// What of its memtables no flush can free for now, and whether flushes fail: then others give first.
    pub(crate) fn note_flushes(&self, held: u64, is_failing: bool) {
        self.shared().state.lock().change(self.open.number, |owner| {
            (owner.held, owner.is_failing) = (held, is_failing);
        });
    }

    /// Nobody flushes this database from now on: it is closed, or only read. Nobody waits for that.
    pub(crate) fn end_flushes(&self) {
        self.shared().state.lock().change(self.open.number, |owner| owner.is_ended = true);
    }
}
