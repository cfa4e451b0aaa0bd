//! What has changed since the files were last written, numbered.

use std::sync::Arc;

use crate::dlq::letter::Letter;

/// More unwritten changes than this, and a snapshot is the shorter way.
const MOST: usize = 20_000;

/// Why a letter is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    Resolved,
    Evicted,
    Expired,
    Superseded,
    Dropped,
}

/// One change of the list.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Added(Arc<Letter>),
    Updated(Arc<Letter>),
    Gone(Arc<Letter>, Why),
}

/// A change with its number.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) n: u64,
    pub(crate) what: What,
}

/// Changes nobody has written yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    last: u64,
    list: Vec<Change>,
    /// The list has gaps: only a snapshot can tell the files what happened.
    gaps: bool,
}

impl Changes {
    pub(crate) fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Number of the last change.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn has_gaps(&self) -> bool {
        self.gaps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.gaps
    }

    pub(crate) fn push(&mut self, what: What) {
        self.last += 1;
        if !self.gaps {
            self.list.push(Change { n: self.last, what });
        }
        if self.list.len() > MOST {
            self.give_up();
        }
    }

    /// From here on only a snapshot will do.
    pub(crate) fn give_up(&mut self) {
        self.list = Vec::new();
        self.gaps = true;
    }

    /// For the journal.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.list)
    }

    /// For a snapshot, which needs no list; what comes after it starts a new one.
    pub(crate) fn take_for_snapshot(&mut self) -> (Vec<Change>, bool) {
        (std::mem::take(&mut self.list), std::mem::take(&mut self.gaps))
    }

    /// The snapshot failed: all is as if it had not been begun.
    pub(crate) fn put_back(&mut self, (mut list, gaps): (Vec<Change>, bool)) {
        list.append(&mut self.list);
        self.list = list;
        if gaps {
            self.give_up();
        }
    }
}
