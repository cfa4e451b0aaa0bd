//! Claims, verdicts and the schedule of redrives.

use std::sync::Arc;

use akidb_host::seeded_bug;

use super::{Letters, Why};
use crate::class::Class;
use crate::dlq::lane::LONGEST_WAIT_MS;
use crate::dlq::letter::{Attempt, Letter, LetterId, LetterState};
use crate::dlq::which::Which;

const FIRST_WAIT_MS: i64 = 60_000;
/// Redrives that the backend refuses for good, or whose file the device does not read, until only a person can help.
const PERMANENT_REDRIVES: u32 = 3;

/// How long a letter waits after so many redrives: a minute, doubling, at most an hour.
pub(super) fn wait_ms(redrives: u32) -> i64 {
    FIRST_WAIT_MS.saturating_mul(1 << redrives.min(6)).min(LONGEST_WAIT_MS)
}

impl Letters {
    /// Takes a letter for one try of its upload; `None` if it is gone or somebody has it.
    pub(crate) fn claim(&mut self, id: &LetterId) -> Option<Arc<Letter>> {
        let letter = self.by_id.get_mut(id)?;
        if letter.state == LetterState::Redriving && !seeded_bug("dlq_claims_twice") {
            return None;
        }
        if let Some(lane) = self.lanes.get_mut(&letter.backend) {
            lane.unschedule(letter);
        }
        self.held.insert(id.clone(), letter.state);
        Arc::make_mut(letter).state = LetterState::Redriving;
        Some(Arc::clone(letter))
    }

    /// Claims at most `max` letters that are due, in the order of priority and age.
    pub(crate) fn claim_due(&mut self, backend: &str, now_unix_ms: i64, max: usize) -> Vec<Arc<Letter>> {
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let first = self.lanes.get_mut(backend).and_then(|lane| lane.first_due(now_unix_ms));
            let Some(letter) = first.and_then(|id| self.claim(&id)) else { break };
            claimed.push(letter);
        }
        claimed
    }

    /// The claim ends without a verdict: the letter is as it was.
    pub(crate) fn give_back(&mut self, id: &LetterId) {
        let Some(before) = self.held.remove(id) else { return };
        self.change_quietly(id, |letter| letter.state = before);
    }

    /// The upload is done, or nobody wants it any more: the letter goes.
    pub(crate) fn resolve(&mut self, id: &LetterId) -> bool {
        self.take(id, Why::Resolved).is_some()
    }

    /// The claimed upload has failed again.
    pub(crate) fn failed(
        &mut self,
        id: &LetterId,
        class: Class,
        message: &str,
        attempt: Attempt,
        now_unix_ms: i64,
    ) {
        self.fail(id, class, class == Class::Permanent, message, attempt, now_unix_ms);
    }

    /// The claimed upload has failed again because the device did not read its file.
    pub(crate) fn unread(&mut self, id: &LetterId, message: &str, attempt: Attempt, now_unix_ms: i64) {
        self.fail(id, Class::Local, true, message, attempt, now_unix_ms);
    }

    /// One more failure; the third of those that count is the last.
    fn fail(
        &mut self,
        id: &LetterId,
        class: Class,
        counts: bool,
        message: &str,
        attempt: Attempt,
        now_unix_ms: i64,
    ) {
        let Some(before) = self.held.remove(id) else { return };
        self.change(id, |letter| {
            letter.state = before;
            letter.blame(class, message);
            letter.remember([attempt]);
            // Nothing was asked of the backend, or nothing of the upload: that says nothing of the upload.
            if !matches!(class, Class::Refused | Class::Auth) {
                letter.redrives = letter.redrives.saturating_add(1);
                letter.asked = false;
                letter.permanent_redrives = letter.permanent_redrives.saturating_add(u32::from(counts));
                let is_bad = class == Class::Local && !counts;
                let hopeless = is_bad || letter.permanent_redrives >= PERMANENT_REDRIVES;
                letter.state = if hopeless { LetterState::Poison } else { LetterState::Dead };
            }
            letter.next_redrive_at = now_unix_ms.saturating_add(wait_ms(letter.redrives));
        });
    }

    /// Due now, poison too; `false` if it is gone. A claimed one is due once its claim has failed.
    pub(crate) fn ask_retry(&mut self, id: &LetterId, now_unix_ms: i64) -> bool {
        if seeded_bug("dlq_retry_all_frees_claims") {
            self.change_quietly(id, |letter| letter.state = LetterState::Dead);
        }
        self.change(id, |letter| {
            letter.asked = true;
            letter.next_redrive_at = now_unix_ms;
        })
    }

    /// As [`Letters::ask_retry`] for all that fit; parked uploads without a letter may be tried too.
    pub(crate) fn ask_retry_all(&mut self, which: &Which, now_unix_ms: i64) -> u64 {
        for (name, lane) in &mut self.lanes {
            if which.state.is_none() && which.backend.as_deref().is_none_or(|wanted| wanted == name) {
                lane.parked.forget_class(which.class);
            }
        }
        let ids: Vec<_> = self.by_id.values().filter(|l| which.fits(l)).map(|l| l.id.clone()).collect();
        ids.iter().filter(|id| self.ask_retry(id, now_unix_ms)).count() as u64
    }

    /// Whether the upload has a letter or a note that says: not before its time.
    pub(crate) fn parked(&self, backend: &str, key: &str, now_unix_ms: i64) -> bool {
        let Some(lane) = self.lanes.get(backend) else { return false };
        let Some(letter) = lane.id_of(key).and_then(|id| self.by_id.get(id)) else {
            return lane.parked.holds(key, now_unix_ms);
        };
        let ahead = letter.next_redrive_at.saturating_sub(now_unix_ms);
        letter.state == LetterState::Redriving
            || !letter.is_driven()
            || (1..=LONGEST_WAIT_MS).contains(&ahead)
    }

    pub(crate) fn next_due(&self, backend: &str) -> Option<i64> {
        self.lanes.get(backend)?.next_due()
    }
}
