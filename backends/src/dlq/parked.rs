//! Notes on uploads whose letter is gone: do not try them again at once. Bounded, in memory only.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::Class;

/// How long an upload without a letter waits.
pub(crate) const PARKED_MS: i64 = 3_600_000;

/// The notes of one backend.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    by_key: BTreeMap<String, Note>,
    by_age: BTreeSet<(u64, String)>,
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    number: u64,
    until_unix_ms: i64,
    class: Class,
}

impl Parked {
    /// Notes a key. With more than `most` notes the oldest goes: its upload is tried earlier, no more.
    pub(crate) fn park(&mut self, key: &str, class: Class, until_unix_ms: i64, most: usize) {
        self.forget(key);
        self.last += 1;
        self.by_key.insert(key.to_owned(), Note { number: self.last, until_unix_ms, class });
        self.by_age.insert((self.last, key.to_owned()));
        if self.by_key.len() > most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_key.remove(&oldest);
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(note) = self.by_key.remove(key) {
            self.by_age.remove(&(note.number, key.to_owned()));
        }
    }

    /// A note that reaches further than one was ever made for is of a clock that was set back: it is over.
    pub(crate) fn holds(&self, key: &str, now_unix_ms: i64) -> bool {
        self.by_key.get(key).is_some_and(|note| is_ahead(note.until_unix_ms, now_unix_ms))
    }

    /// Forgets the notes of a class, or all.
    pub(crate) fn forget_class(&mut self, class: Option<Class>) -> u64 {
        self.retain(|_, note| class.is_some_and(|class| class != note.class))
    }

    pub(crate) fn forget_over(&mut self, now_unix_ms: i64) {
        self.retain(|_, note| is_ahead(note.until_unix_ms, now_unix_ms));
    }

    pub(crate) fn retain_keys(&mut self, keep: impl Fn(&str) -> bool) {
        self.retain(|key, _| keep(key));
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.by_key.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    fn retain(&mut self, keep: impl Fn(&str, &Note) -> bool) -> u64 {
        let before = self.by_key.len();
        self.by_key.retain(|key, note| keep(key, note));
        let Self { by_key, by_age, .. } = self;
        by_age.retain(|(_, key)| by_key.contains_key(key));
        (before - self.by_key.len()) as u64
    }
}

fn is_ahead(until_unix_ms: i64, now_unix_ms: i64) -> bool {
    (1..=PARKED_MS).contains(&until_unix_ms.saturating_sub(now_unix_ms))
}
