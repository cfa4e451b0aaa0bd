//! The dead letters in memory: bounds, order, schedule and states. No clock and no files: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::changes::Changes;
use self::redrive::wait_ms;
use super::lane::Lane;
use super::letter::{Letter, LetterId, LetterState, NewLetter};
use super::parked::PARKED_MS;
use super::settings::{DlqSettings, Overflow};
use super::which::{DlqStats, Which};

pub(crate) mod changes;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod property;
mod redrive;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests;

pub(crate) use changes::{Change, What, Why};

/// All letters of a database.
#[derive(Debug)]
pub(crate) struct Letters {
    by_id: BTreeMap<LetterId, Arc<Letter>>,
    lanes: BTreeMap<String, Lane>,
    by_expiry: BTreeSet<(i64, LetterId)>,
    /// Claimed letters, and what they were.
    held: BTreeMap<LetterId, LetterState>,
    pub(crate) changes: Changes,
    max_size: usize,
    ttl_secs: i64,
    overflow: Overflow,
}

/// What became of a new letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New(LetterId),
    /// The same upload has a letter: it tells of the new failure now.
    Updated,
    /// There is no room, and the oldest are to be kept.
    Rejected,
}

impl Letters {
    pub(crate) fn new(settings: &DlqSettings) -> Self {
        Self {
            by_id: BTreeMap::new(),
            lanes: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            held: BTreeMap::new(),
            changes: Changes::default(),
            max_size: settings.max_size.max(1) as usize,
            ttl_secs: i64::try_from(settings.ttl_seconds).unwrap_or(i64::MAX),
            overflow: settings.overflow,
        }
    }

    /// As [`Letters::new`], with what was read from the files; `last` is the number of the last change in there.
    /// What does not fit any more goes, oldest first, and counts as evicted.
    pub(crate) fn loaded(settings: &DlqSettings, letters: Vec<Letter>, last: u64, now_unix_ms: i64) -> Self {
        let mut all = Self::new(settings);
        all.changes = Changes::after(last);
        for mut letter in letters {
            if letter.state == LetterState::Redriving {
                letter.state = LetterState::Dead;
            }
            // An upload has one letter: the end of the older one was lost.
            if let Some(older) = all.id_of(&letter.backend, &letter.key).cloned() {
                all.take(&older, Why::Superseded);
            }
            all.insert(Arc::new(letter));
        }
        let names: Vec<String> = all.lanes.keys().cloned().collect();
        for name in names {
            while all.lanes[&name].len() > all.max_size {
                all.evict_oldest(&name, now_unix_ms);
            }
        }
        all
    }

    pub(crate) fn add(&mut self, new: NewLetter, id: LetterId, now_unix_ms: i64) -> Added {
        let lane = self.lanes.entry(new.backend.clone()).or_default();
        if let Some(known) = lane.id_of(&new.key).cloned() {
            self.tell_again(&known, new, now_unix_ms);
            return Added::Updated;
        }
        if lane.len() >= self.max_size {
            if self.overflow == Overflow::Reject {
                lane.counts.rejected += 1;
                lane.parked.park(&new.key, new.class, now_unix_ms.saturating_add(PARKED_MS), self.max_size);
                return Added::Rejected;
            }
            self.evict_oldest(&new.backend, now_unix_ms);
        }
        let first_redrive_ms = now_unix_ms.saturating_add(wait_ms(0));
        let letter = Arc::new(new.into_letter(id.clone(), now_unix_ms, self.ttl_secs, first_redrive_ms));
        self.insert(Arc::clone(&letter));
        self.changes.push(What::Added(letter));
        Added::New(id)
    }

    /// A letter's upload has failed outside a redrive.
    fn tell_again(&mut self, id: &LetterId, new: NewLetter, now_unix_ms: i64) {
        let poison = new.poison;
        if poison && let Some(before) = self.held.get_mut(id) {
            *before = LetterState::Poison;
        }
        self.change(id, |letter| {
            letter.blame(new.class, &new.error_message);
            letter.remember(new.attempts);
            letter.retry_count = letter.retry_count.saturating_add(new.retry_count);
            letter.priority = new.priority;
            letter.local = new.local;
            letter.local_number = new.local_number;
            letter.next_redrive_at =
                letter.next_redrive_at.max(now_unix_ms.saturating_add(wait_ms(letter.redrives)));
            letter.asked = false;
            if poison && letter.state == LetterState::Dead {
                letter.state = LetterState::Poison;
            }
        });
    }

    /// Letters and notes of these uploads go: nobody wants them any more.
    pub(crate) fn supersede(&mut self, backend: &str, unwanted: &BTreeSet<String>) -> u64 {
        let Some(lane) = self.lanes.get_mut(backend) else { return 0 };
        lane.parked.retain_keys(|key| !unwanted.contains(key));
        let ids: Vec<_> = unwanted.iter().filter_map(|key| lane.id_of(key).cloned()).collect();
        ids.iter().filter(|id| self.take(id, Why::Superseded).is_some()).count() as u64
    }

    /// Every key of a backend that has a letter or a note.
    pub(crate) fn keys(&self, backend: &str) -> BTreeSet<String> {
        let lane = self.lanes.get(backend).into_iter();
        lane.flat_map(|lane| lane.keys().chain(lane.parked.keys())).cloned().collect()
    }

    /// A person drops it; `Err` if somebody is trying its upload.
    pub(crate) fn drop_entry(&mut self, id: &LetterId) -> Result<bool, ()> {
        if self.held.contains_key(id) {
            return Err(());
        }
        Ok(self.take(id, Why::Dropped).is_some())
    }

    /// Letters older than their time go, those with a claim excepted; their uploads are parked.
    pub(crate) fn expire(&mut self, now_unix_secs: i64, now_unix_ms: i64) -> u64 {
        let due = self.by_expiry.iter().take_while(|(at, _)| *at <= now_unix_secs);
        let ids: Vec<_> = due.map(|(_, id)| id.clone()).filter(|id| !self.held.contains_key(id)).collect();
        for id in &ids {
            let Some(letter) = self.take(id, Why::Expired) else { continue };
            if let Some(lane) = self.lanes.get_mut(&letter.backend) {
                lane.counts.expired += 1;
                let until = now_unix_ms.saturating_add(PARKED_MS);
                lane.parked.park(&letter.key, letter.class, until, self.max_size);
            }
        }
        self.lanes.values_mut().for_each(|lane| lane.parked.forget_over(now_unix_ms));
        ids.len() as u64
    }

    pub(crate) fn id_of(&self, backend: &str, key: &str) -> Option<&LetterId> {
        self.lanes.get(backend)?.id_of(key)
    }

    pub(crate) fn get(&self, id: &LetterId) -> Option<&Arc<Letter>> {
        self.by_id.get(id)
    }

    /// Those that fit, oldest first.
    pub(crate) fn list<'a>(&'a self, which: &'a Which) -> impl Iterator<Item = &'a Arc<Letter>> {
        self.by_id.values().filter(|letter| which.fits(letter))
    }

    /// As it is to be on disk: without claims.
    pub(crate) fn all(&self) -> Vec<Arc<Letter>> {
        let unclaimed = |letter: &Arc<Letter>| match self.held.get(&letter.id) {
            None => Arc::clone(letter),
            Some(before) => Arc::new(Letter { state: *before, ..Letter::clone(letter) }),
        };
        self.by_id.values().map(unclaimed).collect()
    }

    pub(crate) fn stats(&self, backend: Option<&str>, now_unix_ms: i64) -> DlqStats {
        let wanted = |name: &str| backend.is_none_or(|backend| backend == name);
        let mut stats = DlqStats::default();
        for (_, lane) in self.lanes.iter().filter(|(name, _)| wanted(name)) {
            stats.size += lane.len() as u64;
            stats.total_evictions += lane.counts.evicted;
            stats.total_expired += lane.counts.expired;
            stats.rejected += lane.counts.rejected;
            stats.parked += lane.parked.len() as u64;
        }
        let mut oldest = i64::MAX;
        for letter in self.by_id.values().filter(|letter| wanted(&letter.backend)) {
            stats.poison += u64::from(letter.state == LetterState::Poison);
            stats.redriving += u64::from(letter.state == LetterState::Redriving);
            oldest = oldest.min(letter.created_at);
        }
        let age = now_unix_ms.div_euclid(1_000).saturating_sub(oldest);
        stats.oldest_entry_age_seconds = u64::try_from(age).unwrap_or(0);
        stats
    }

    fn evict_oldest(&mut self, backend: &str, now_unix_ms: i64) {
        let Some(lane) = self.lanes.get(backend) else { return };
        // A claim keeps its letter unless all are claimed.
        let free = lane.by_age().find(|id| !self.held.contains_key(id));
        let Some(id) = free.or_else(|| lane.by_age().next()).cloned() else { return };
        let Some(letter) = self.take(&id, Why::Evicted) else { return };
        if let Some(lane) = self.lanes.get_mut(backend) {
            lane.counts.evicted += 1;
            let until = now_unix_ms.saturating_add(PARKED_MS);
            lane.parked.park(&letter.key, letter.class, until, self.max_size);
        }
    }

    fn insert(&mut self, letter: Arc<Letter>) {
        let lane = self.lanes.entry(letter.backend.clone()).or_default();
        lane.parked.forget(&letter.key);
        lane.insert(&letter);
        self.by_expiry.insert((letter.expires_at, letter.id.clone()));
        self.by_id.insert(letter.id.clone(), letter);
    }

    fn take(&mut self, id: &LetterId, why: Why) -> Option<Arc<Letter>> {
        let letter = self.by_id.remove(id)?;
        self.held.remove(id);
        self.by_expiry.remove(&(letter.expires_at, id.clone()));
        if let Some(lane) = self.lanes.get_mut(&letter.backend) {
            lane.remove(&letter);
        }
        self.changes.push(What::Gone(Arc::clone(&letter), why));
        Some(letter)
    }

    /// Changes a letter and says so to the journal.
    fn change(&mut self, id: &LetterId, change: impl FnOnce(&mut Letter)) -> bool {
        let known = self.change_quietly(id, change);
        if let Some(letter) = self.by_id.get(id) {
            let mut letter = Arc::clone(letter);
            if let Some(before) = self.held.get(id) {
                Arc::make_mut(&mut letter).state = *before;
            }
            self.changes.push(What::Updated(letter));
        }
        known
    }

    fn change_quietly(&mut self, id: &LetterId, change: impl FnOnce(&mut Letter)) -> bool {
        let Some(letter) = self.by_id.get_mut(id) else { return false };
        let Some(lane) = self.lanes.get_mut(&letter.backend) else { return false };
        lane.unschedule(letter);
        change(Arc::make_mut(letter));
        if letter.state != LetterState::Redriving {
            lane.schedule(letter);
        }
        true
    }
}
