//! The snapshots that readers hold: which version at which LSN, for whom and since when.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::memtable::Memtable;
use crate::version::View;

/// Most snapshots at a time.
const MAX_SNAPSHOTS: usize = 1_024;
/// Longest name of a holder.
const MAX_HOLDER_BYTES: usize = 128;

/// A snapshot that is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) holder: String,
    pub(crate) since: Instant,
    pub(crate) view: View<Catalog>,
}

/// All of them, by number. What they keep in memory and on disk goes with the last of them that holds it.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    held: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    last: u64,
    by_number: BTreeMap<u64, Held>,
    /// Numbers of the snapshots that were given up for their age, with how long they were held.
    given_up: BTreeMap<u64, (String, Duration)>,
}

fn memtables(catalog: &Catalog) -> impl Iterator<Item = &Arc<Memtable>> {
    catalog.collections.values().flat_map(|state| state.memtables())
}

/// The memtables of a version: what is compared with them is only looked at.
pub(crate) fn live_memtables(current: &Catalog) -> HashSet<*const Memtable> {
    memtables(current).map(Arc::as_ptr).collect()
}

/// Bytes of the memtables that are in memory for the sake of these alone.
pub(crate) fn pinned_bytes<'a>(held: impl Iterator<Item = &'a Held>, live: &HashSet<*const Memtable>) -> u64 {
    let all = held.flat_map(|held| memtables(held.view.content()));
    let pinned: BTreeMap<*const Memtable, u64> = all
        .map(|memtable| (Arc::as_ptr(memtable), memtable.held_bytes()))
        .filter(|(at, _)| !live.contains(at))
        .collect();
    pinned.values().sum()
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a view until [`Snapshots::release`] or its age is over.
    pub(crate) fn hold(&self, holder: &str, since: Instant, view: View<Catalog>) -> Result<u64> {
        if holder.is_empty() || holder.len() > MAX_HOLDER_BYTES {
            let message = format!(
                "a snapshot is held by a name of 1 to {MAX_HOLDER_BYTES} bytes, got {}",
                holder.len()
            );
            return Err(Error::invalid("AKI-0264", message));
        }
        let mut registry = self.lock();
        if registry.by_number.len() >= MAX_SNAPSHOTS {
            let kind = ErrorKind::Full { which: "snapshots", retry_after: Duration::from_millis(100) };
            let message = format!("{MAX_SNAPSHOTS} snapshots are held already");
            return Err(
                Error::new(kind, "AKI-0265", message).help_is("drop those that are not read any more")
            );
        }
        registry.last += 1;
        let number = registry.last;
        registry.by_number.insert(number, Held { holder: holder.to_owned(), since, view });
        Ok(number)
    }

    /// The view that snapshot `number` is of.
    ///
    /// # Errors
    /// `NotFound` once it was given up.
    pub(crate) fn view(&self, number: u64) -> Result<View<Catalog>> {
        let registry = self.lock();
        if let Some(held) = registry.by_number.get(&number) {
            return Ok(held.view.clone());
        }
        let message = match registry.given_up.get(&number) {
            Some((holder, age)) => {
                format!("the snapshot of \"{holder}\" was given up after {} s", age.as_secs())
            }
            None => "the snapshot was given up".to_owned(),
        };
        Err(Error::new(ErrorKind::NotFound, "AKI-0266", message)
            .help_is(
                "take a new one and read faster, or raise engine.snapshot_max_age_secs (engine.memory_bytes if it was young)",
            ))
    }

    /// Lets snapshot `number` go.
    pub(crate) fn release(&self, number: u64) {
        let mut registry = self.lock();
        registry.given_up.remove(&number);
        let gone = registry.by_number.remove(&number);
        drop(registry);
        // Without the lock: it may be the last to hold much.
        drop(gone);
    }

    /// Gives up what is held for longer than `max_age`, and then the oldest until all memtables that are in memory for
    /// the sake of snapshots alone, and not in `current`, take at most `max_bytes`. One that keeps no memtable, such as those
    /// that a kept manifest was opened for, frees none and stays.
    pub(crate) fn expire(&self, now: Instant, max_age: Duration, current: &Catalog, max_bytes: u64) {
        let mut registry = self.lock();
        if registry.by_number.is_empty() {
            return;
        }
        let live = live_memtables(current);
        let mut gone = Vec::new();
        let age = |held: &Held| now.saturating_duration_since(held.since);
        loop {
            let is_over = pinned_bytes(registry.by_number.values(), &live) > max_bytes;
            let goes = |held: &Held| {
                age(held) > max_age || is_over && pinned_bytes(std::iter::once(held), &live) > 0
            };
            let Some(number) = registry.by_number.iter().find(|(_, held)| goes(held)).map(|(n, _)| *n) else {
                break;
            };
            let Some(held) = registry.by_number.remove(&number) else { break };
            let age = age(&held);
            let (holder, age_secs) = (&held.holder, age.as_secs());
            tracing::warn!(holder, age_secs, "a snapshot was held for too long, or kept too much in memory");
            registry.given_up.insert(number, (held.holder.clone(), age));
            gone.push(held);
        }
        drop(registry);
        drop(gone);
    }

    /// Lets everything go: the database is closed.
    pub(crate) fn release_all(&self) {
        let gone = std::mem::take(&mut self.lock().by_number);
        drop(gone);
    }

    /// Runs `look` over all that are held.
    pub(crate) fn each<T>(&self, look: impl Fn(&Held) -> T) -> Vec<T> {
        self.lock().by_number.values().map(look).collect()
    }
}
