//! Letters as the threads use them: what is acknowledged is looked for on the disk, and a claim is one of its kind.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::world::{BACKEND, World};
use crate::class::{Class, Op};
use crate::dlq::{Added, Attempt, Claim, LetterId, LetterState, NewLetter, Which};

impl World {
    pub(super) fn is_free(&self, file: u32) -> bool {
        let (state, key) = (self.ledger.room.lock(), file.to_string());
        state.letters.id_of(BACKEND, &key).is_none() && !state.letters.parked(BACKEND, &key, self.now())
    }

    /// Letters of files that are not among these go.
    pub(super) fn supersede(&self, missing: &BTreeSet<u32>) {
        let keys = self.ledger.room.lock().letters.keys(BACKEND);
        let is_unwanted = |key: &String| !missing.iter().any(|file| file.to_string() == *key);
        let unwanted = keys.into_iter().filter(is_unwanted).collect();
        let gone = self.ledger.room.lock().letters.supersede(BACKEND, &unwanted);
        self.seen.superseded.more(gone);
    }

    /// Adds a letter; acknowledged, it is on disk at that very moment, or gone again.
    pub(super) fn add_letter(&self, local_number: u64, file: u32, class: Class, poison: bool) {
        let id: LetterId = format!("00000000-0000-7000-8000-{:012}", self.last_id.fetch_add(1, Relaxed))
            .parse()
            .expect("digits and dashes");
        let new = NewLetter {
            backend: BACKEND.into(),
            collection_id: "1".into(),
            segment_id: "1".into(),
            op: Op::Put,
            key: file.to_string(),
            local: "local".into(),
            len: 1,
            crc32: 2,
            local_number,
            class,
            error_message: String::new(),
            retry_count: 3,
            attempts: Vec::new(),
            priority: 0,
            poison,
        };
        let (added, n) = {
            let mut state = self.ledger.room.lock();
            (state.letters.add(new, id, self.now()), state.letters.changes.last())
        };
        match added {
            Added::New(id) => self.acknowledged(n, Some(&id)),
            Added::Updated => self.acknowledged(n, None),
            Added::Rejected => self.seen.rejected.add(),
        }
    }

    /// Waits for a change to be on disk, and looks for it there.
    fn acknowledged(&self, n: u64, id: Option<&LetterId>) {
        self.seen.buried.add();
        if self.ledger.settle(n).is_err() {
            self.seen.unwritten.add();
            return;
        }
        assert!(self.ledger.sink.covered() >= n, "change {n} is acknowledged and nowhere");
        if let Some(id) = id {
            // In this order: a letter goes from memory before it goes from disk, and never comes back.
            let is_there = self.ledger.sink.letters().contains(id);
            let is_gone = || self.ledger.room.lock().letters.get(id).is_none();
            assert!(is_there || is_gone(), "letter {id} is acknowledged and nowhere");
        }
    }

    /// A person drops the oldest letter nobody has a claim of.
    pub(super) fn drop_oldest(&self) {
        let n = {
            let mut state = self.ledger.room.lock();
            let Some(id) = state.letters.list(&Which::all()).next().map(|letter| letter.id.clone()) else {
                return;
            };
            if state.letters.drop_entry(&id).is_err() {
                return;
            }
            state.letters.changes.last()
        };
        self.acknowledged(n, None);
    }

    pub(super) fn dead(&self) -> VecDeque<LetterId> {
        let which = Which::backend(BACKEND).with_state(LetterState::Dead);
        self.ledger.room.lock().letters.list(&which).map(|letter| letter.id.clone()).collect()
    }

    pub(super) fn claim(&self, id: &LetterId) -> Option<Claim> {
        let letter = self.ledger.room.lock().letters.claim(id)?;
        Some(self.claimed(Claim::new(Arc::clone(&self.ledger.room), letter)))
    }

    pub(super) fn claim_due(&self) -> Option<Claim> {
        let letter = self.ledger.room.lock().letters.claim_due(BACKEND, self.now(), 1).pop()?;
        Some(self.claimed(Claim::new(Arc::clone(&self.ledger.room), letter)))
    }

    fn claimed(&self, claim: Claim) -> Claim {
        let is_first = self.claims.lock().unwrap().insert(claim.id().clone());
        assert!(is_first, "letter {} is claimed twice at once", claim.id());
        claim
    }

    /// To be called before its end: from then on somebody else may have it.
    fn ends(&self, claim: &Claim) {
        self.claims.lock().unwrap().remove(claim.id());
    }

    pub(super) fn resolve(&self, claim: Claim) {
        self.ends(&claim);
        let id = claim.settle();
        self.ledger.room.lock().letters.resolve(&id);
    }

    pub(super) fn failed(&self, claim: Claim, class: Class) {
        self.ends(&claim);
        let attempt = Attempt { unix_ms: self.now(), status: None, request_id: None, millis: 0 };
        let id = claim.settle();
        self.ledger.room.lock().letters.failed(&id, class, "", attempt, self.now());
    }

    pub(super) fn give_back(&self, claim: Claim) {
        self.ends(&claim);
        drop(claim);
    }

    pub(super) fn has_claims(&self) -> bool {
        !self.claims.lock().unwrap().is_empty()
    }
}
