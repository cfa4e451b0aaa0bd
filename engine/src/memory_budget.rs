//! The bytes that the databases of a process may hold together: who holds how many, who waits, and who gives back first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;

use akidb_host::{Ticker, seeded_bug};

use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

mod account;
mod charge;
mod usage;

pub(crate) use account::Account;
pub(crate) use charge::Charge;
pub use usage::{MemoryUsage, MemoryUse};

/// One limit on the bytes that databases hold in memory: their memtables, what flushes and merges need, kept columns of
/// filters and pages, tables of open segments, pieces on their way to backends, what writes and reads under way take above
/// 64 KiB. What a call answers with is its caller's. Mapped files do not count: the system takes their pages back when it
/// needs them. Clones are the same budget; [`crate::Builder::memory`] gives one to several databases.
///
/// **No wait is for ever.** Writers and merges wait; what gives memory back never does. Memory comes back from (1) the flush
/// of a memtable, (2) the end of a merge or an upload, (3) caches, which are only dropped, (4) the end of a read or a
/// snapshot. Flushes take what they need without asking; those that run, of all databases together, may pass the limit by
/// what they need beyond the eighth that writers leave free for them, and nobody waits for that part. Pieces of uploads are
/// bounded by their number, writes and reads under way by their callers', tables by the segments: they do not ask either, and
/// beyond an eighth each hold up nobody. A merge takes all it will need
/// before it begins, and waits for nothing of this budget after that. So whoever holds memory comes to its end without
/// getting any.
///
/// A write waits for flushes alone, and only while there is something that one can free: memtables of damaged collections,
/// of flushes that fail, and of databases that are closed or only read are none of it. Beside those, memtables may hold an
/// eighth in any case, so that they are not flushed row by row. Only the writers of a database whose own flush failed wait
/// until it is tried again, or they would fill the memory of the others. The models `loom_memory_*` run this.
#[derive(Clone)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    uses: [MemoryUsage; MemoryUse::ALL.len()],
    /// Bytes of all uses together, at most so far.
    peak: u64,
    /// Bytes of the largest write that found no room since there was enough, or a flush ended: who still waits says so again.
    wanted: u64,
    /// Bytes of memtables that a flush can free, of all accounts.
    flushable: u64,
    last_account: u64,
    accounts: BTreeMap<u64, Owner>,
}

/// One database.
#[derive(Debug, Default)]
struct Owner {
    /// Bytes of its memtables.
    memtables: u64,
    /// Bytes of those that are flushed and still read.
    snapshots: u64,
    /// Bytes of memtables that no flush can free for now: of damaged collections, and of those whose last flush failed.
    held: u64,
    /// A flush failed, and it is not time to try again.
    is_failing: bool,
    /// Nobody flushes it: it is closed, or open for reading only.
    is_ended: bool,
    driver: Option<Weak<dyn Ticker>>,
}

impl Owner {
    fn flushable(&self) -> u64 {
        if self.is_ended { 0 } else { self.memtables.saturating_sub(self.held) }
    }
}

impl State {
    fn of(&self, usage: MemoryUse) -> &MemoryUsage {
        &self.uses[usage as usize]
    }

    fn total(&self) -> u64 {
        self.uses.iter().map(|used| used.bytes).sum()
    }

    fn add(&mut self, account: u64, usage: MemoryUse, bytes: u64) {
        let used = &mut self.uses[usage as usize];
        used.bytes += bytes;
        used.peak_bytes = used.peak_bytes.max(used.bytes);
        self.peak = self.peak.max(self.total());
        self.change(account, |owner| match usage {
            MemoryUse::Memtables => owner.memtables += bytes,
            MemoryUse::Snapshots => owner.snapshots += bytes,
            _ => {}
        });
    }

    fn remove(&mut self, account: u64, usage: MemoryUse, bytes: u64) {
        self.uses[usage as usize].bytes -= bytes;
        self.change(account, |owner| match usage {
            MemoryUse::Memtables => owner.memtables -= bytes,
            MemoryUse::Snapshots => owner.snapshots -= bytes,
            _ => {}
        });
    }

    /// Changes what is known of one account, and the sum over all of them.
    fn change(&mut self, account: u64, change: impl FnOnce(&mut Owner)) {
        if let Some(owner) = self.accounts.get_mut(&account) {
            let before = owner.flushable();
            change(owner);
            self.flushable = self.flushable - before + owner.flushable();
        }
    }

    /// Whose memtables are flushed first: the one with the most bytes that a flush can free.
    fn first_to_give(&self) -> Option<u64> {
        let giving = self.accounts.iter().filter(|(_, owner)| owner.flushable() > 0);
        giving
            .max_by_key(|(number, owner)| (owner.flushable(), u64::MAX - **number))
            .map(|(number, _)| *number)
    }
}

impl Shared {
    fn share(&self, usage: MemoryUse) -> u64 {
        self.limit / usage.divisor()
    }

    /// What writers leave free for flushes.
    fn writers_limit(&self) -> u64 {
        self.limit - self.share(MemoryUse::Flushes)
    }

    /// What those who wait have to wait for: caches are dropped at will, flushes are what they wait for, and what never asks
    /// holds up nobody beyond its share.
    fn firm(&self, state: &State) -> u64 {
        let is_firm = |usage: &&MemoryUse| !usage.is_cache() && **usage != MemoryUse::Flushes;
        MemoryUse::ALL.iter().filter(is_firm).map(|usage| self.counted(state, *usage)).sum()
    }

    /// Bytes of a use that hold up others: of what never asks, no more than its share.
    fn counted(&self, state: &State, usage: MemoryUse) -> u64 {
        let bytes = state.of(usage).bytes;
        if usage.never_asks() { bytes.min(self.share(usage)) } else { bytes }
    }

    /// What caches have room beside, and they themselves: all there is, but of open segments, which stay, their share at most. Else
    /// a large database would have no caches at all.
    fn beside_caches(&self, state: &State) -> u64 {
        let segments = MemoryUse::Segments;
        state.total() - state.of(segments).bytes + self.counted(state, segments)
    }

    fn fits(&self, state: &State, usage: MemoryUse, bytes: u64) -> bool {
        let held = if usage.is_cache() { self.beside_caches(state) } else { self.firm(state) };
        held + bytes <= self.limit && state.of(usage).bytes + bytes <= self.share(usage)
    }

    /// What memtables that can be flushed may hold together: what the rest leaves, and an eighth in any case.
    fn room_to_flush(&self, state: &State) -> u64 {
        let rest = self.firm(state) - state.flushable;
        self.writers_limit().saturating_sub(rest).max(self.share(MemoryUse::Flushes))
    }

    fn holds_back(&self, state: &State, bytes: u64) -> bool {
        state.flushable > 0 && state.flushable + bytes > self.room_to_flush(state)
    }

    /// Whether memtables have to be flushed for the sake of memory: early enough for writers to go on meanwhile. What
    /// cannot be flushed is no reason to flush the rest in small pieces, unless somebody waits.
    fn is_over(&self, state: &State) -> bool {
        // Of what writers may take in all, half of the limit is four sevenths.
        let most = (self.room_to_flush(state) / 7 * 4).min(self.share(MemoryUse::Memtables));
        state.flushable >= most || state.wanted > 0 && self.holds_back(state, state.wanted)
    }

    fn release(&self, mut state: MutexGuard<'_, State>) {
        if state.wanted > 0 && !self.holds_back(&state, state.wanted) {
            state.wanted = 0;
        }
        drop(state);
        if !seeded_bug("memory_released_in_silence") {
            self.released.notify_all();
        }
    }
}

impl MemoryBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        let shared = Shared { limit: limit_bytes, state: Mutex::default(), released: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// The limit.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.shared.limit
    }

    /// Bytes held now, by all uses together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().total()
    }

    /// Bytes held at most so far, by all uses together.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.shared.state.lock().peak
    }

    /// What one use holds now, and held.
    #[must_use]
    pub fn usage(&self, usage: MemoryUse) -> MemoryUsage {
        *self.shared.state.lock().of(usage)
    }

    /// The part of one more database in this budget.
    pub(crate) fn account(&self) -> Account {
        let mut state = self.shared.state.lock();
        state.last_account += 1;
        let number = state.last_account;
        state.accounts.insert(number, Owner::default());
        drop(state);
        Account::new(self.clone(), number)
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBudget({} of {} bytes)", self.used_bytes(), self.limit_bytes())
    }
}

#[cfg(all(test, akidb_loom))]
mod loom_tests;
#[cfg(all(test, not(akidb_loom)))]
mod tests;
