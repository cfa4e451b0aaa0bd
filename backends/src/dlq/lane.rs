//! The letters of one backend by what is asked of them: by key, by age, and by what is due first.

use std::collections::{BTreeMap, BTreeSet};

use super::letter::{Letter, LetterId};
use super::parked::Parked;

/// The longest a letter waits for its next redrive. One further ahead is of a clock that was set back: it is due.
pub(crate) const LONGEST_WAIT_MS: i64 = 3_600_000;

/// Indexes of one backend's letters. A claimed letter is in none of the orders of redrive.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    by_key: BTreeMap<String, LetterId>,
    /// Oldest first: ids rise.
    by_age: BTreeSet<LetterId>,
    /// Due, in the order of redrive.
    ready: BTreeSet<(u8, LetterId)>,
    /// Not due yet, by the time they are.
    waiting: BTreeSet<(i64, u8, LetterId)>,
    pub(crate) parked: Parked,
    pub(crate) counts: Counts,
}

/// What has happened since the open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) rejected: u64,
}

impl Lane {
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(crate) fn id_of(&self, key: &str) -> Option<&LetterId> {
        self.by_key.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.by_key.keys()
    }

    pub(crate) fn by_age(&self) -> impl Iterator<Item = &LetterId> {
        self.by_age.iter()
    }

    pub(crate) fn insert(&mut self, letter: &Letter) {
        self.by_key.insert(letter.key.clone(), letter.id.clone());
        self.by_age.insert(letter.id.clone());
        self.schedule(letter);
    }

    pub(crate) fn remove(&mut self, letter: &Letter) {
        self.unschedule(letter);
        self.by_age.remove(&letter.id);
        if self.by_key.get(&letter.key) == Some(&letter.id) {
            self.by_key.remove(&letter.key);
        }
    }

    /// Puts a letter where a redrive finds it when its time comes; poison nobody asked for is not found.
    pub(crate) fn schedule(&mut self, letter: &Letter) {
        if letter.is_driven() {
            self.waiting.insert((letter.next_redrive_at, letter.priority, letter.id.clone()));
        }
    }

    pub(crate) fn unschedule(&mut self, letter: &Letter) {
        self.ready.remove(&(letter.priority, letter.id.clone()));
        self.waiting.remove(&(letter.next_redrive_at, letter.priority, letter.id.clone()));
    }

    /// The letter to redrive first, if one is due.
    pub(crate) fn first_due(&mut self, now_unix_ms: i64) -> Option<LetterId> {
        while let Some((at, _, _)) = self.waiting.first() {
            if *at > now_unix_ms {
                break;
            }
            self.promote(true);
        }
        let horizon = now_unix_ms.saturating_add(LONGEST_WAIT_MS);
        while self.waiting.last().is_some_and(|(at, _, _)| *at > horizon) {
            self.promote(false);
        }
        self.ready.first().map(|(_, id)| id.clone())
    }

    fn promote(&mut self, first: bool) {
        let one = if first { self.waiting.pop_first() } else { self.waiting.pop_last() };
        self.ready.extend(one.map(|(_, priority, id)| (priority, id)));
    }

    /// When the next one is due, milliseconds since the Unix epoch; the past (0) if one is due already.
    pub(crate) fn next_due(&self) -> Option<i64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        self.waiting.first().map(|(at, _, _)| *at)
    }
}
