//! A backend in memory by a script: it fails, heals, refuses one file for good, and keeps numbered documents.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Plan, chance};
use crate::sync::Mutex;

/// What the backend says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    /// By the backend's fault, or no answer at all.
    Fault,
    /// For good, by the file's own fault.
    Refusal,
}

struct Objects {
    /// Calls that may still fail.
    fails: u32,
    /// Refused for good until somebody mends them.
    bad: BTreeSet<u32>,
    under_way: BTreeSet<u32>,
    /// Tried calls under way.
    tried: u32,
    there: BTreeSet<u32>,
    /// The first one has number 1.
    documents: Vec<Arc<Plan>>,
}

impl Objects {
    fn fails(&mut self) -> bool {
        let fails = self.fails > 0 && !chance(4);
        self.fails -= u32::from(fails);
        fails
    }
}

pub(super) struct Store(Mutex<Objects>);

impl Store {
    pub(super) fn new(fails: u32, bad: BTreeSet<u32>) -> Self {
        let (under_way, there, documents) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self(Mutex::new(Objects { fails, bad, under_way, tried: 0, there, documents }))
    }

    /// One file at a time is sent once, and no more calls are tried at once than the breaker's settings say.
    pub(super) fn put(&self, file: u32, is_tried: bool) -> Answer {
        {
            let mut objects = self.0.lock();
            assert!(objects.under_way.insert(file), "file {file} is sent twice at once");
            objects.tried += u32::from(is_tried);
            assert!(objects.tried <= super::TRIED_AT_ONCE, "{} calls are tried at once", objects.tried);
        }
        let mut objects = self.0.lock();
        objects.under_way.remove(&file);
        objects.tried -= u32::from(is_tried);
        if objects.fails() {
            return Answer::Fault;
        }
        if objects.bad.contains(&file) {
            return Answer::Refusal;
        }
        objects.there.insert(file);
        Answer::Well
    }

    /// Creates the document of this number, unless it is taken. One that fails may have been created all the same.
    pub(super) fn commit(&self, number: usize, plan: &Arc<Plan>) -> Answer {
        let mut objects = self.0.lock();
        let fails = objects.fails();
        if !fails || chance(2) {
            let absent = plan.files.iter().find(|file| !objects.there.contains(file));
            assert_eq!(absent, None, "document {number} names a file that was not put");
            assert_eq!(number, objects.documents.len() + 1, "a number is skipped or taken");
            let newest = objects.documents.last().map_or(0, |newest| newest.number);
            assert!(newest < plan.number, "an older plan after {newest}");
            objects.documents.push(Arc::clone(plan));
        }
        if fails { Answer::Fault } else { Answer::Well }
    }

    /// Number of the newest document and of the plan it copies; zeros if there is none.
    pub(super) fn newest(&self) -> (usize, u64) {
        let objects = self.0.lock();
        (objects.documents.len(), objects.documents.last().map_or(0, |newest| newest.number))
    }

    /// What was refused for good is no more.
    pub(super) fn mend(&self) {
        self.0.lock().bad.clear();
    }

    pub(super) fn has_all(&self, files: &[u32]) -> bool {
        let objects = self.0.lock();
        files.iter().all(|file| objects.there.contains(file))
    }
}
