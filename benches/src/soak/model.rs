//! Which row each change of a soak makes, and what the database must hold after so many: both follow from the seed and
//! the number of changes alone, so that a killed writer and its judge never have to ask each other.

use akidb_host::Rng;
use serde::{Deserialize, Serialize};

use super::SoakWorkload;

/// Upserts of a batch.
const BATCH: usize = 10;
/// Of a hundred upserts of [`SoakWorkload::Insert`] so many overwrite a row.
const OVERWRITES_OF_HUNDRED: u64 = 30;
/// Odd, so that it takes numbers of 32 bits to others one to one: rows arrive in no order of their ids.
const SCATTER: u32 = 0x9E37_79B1;
/// Its inverse.
const GATHER: u32 = inverse(SCATTER);

/// Which changes a soak makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) workload: SoakWorkload,
    pub(super) seed: u64,
    /// The first so many changes are upserts of new rows, of whatever workload.
    pub(super) fill: u32,
}

/// One change: its number, from 0, and the row it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) n: u32,
    pub(super) row: u32,
}

/// What one call makes: all of it is there after a crash, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Upserts(Vec<Change>),
    Delete(Change),
}

/// The changes so far and what they left.
#[derive(Clone, Debug)]
pub(super) struct Model {
    script: Script,
    rng: Rng,
    changes: u32,
    upserts: u32,
    /// By row: one more than the number of the change that wrote it last, 0 once it is deleted.
    last: Vec<u32>,
    /// The rows there are, in no order; kept where rows are deleted.
    live: Vec<u32>,
    live_rows: u32,
    owed_deletes: usize,
}

impl Model {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            rng: Rng::seeded(script.seed),
            changes: 0,
            upserts: 0,
            last: Vec::new(),
            live: Vec::new(),
            live_rows: 0,
            owed_deletes: 0,
        }
    }

    /// Changes made so far.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// Upserts among them.
    pub(super) fn upserts(&self) -> u32 {
        self.upserts
    }

    /// Rows there are.
    pub(super) fn live_rows(&self) -> u32 {
        self.live_rows
    }

    /// The number of the change that wrote this row last; none if there is no such row.
    pub(super) fn writer_of(&self, row: u32) -> Option<u32> {
        self.last.get(row as usize)?.checked_sub(1)
    }

    /// Makes the next changes.
    pub(super) fn next(&mut self) -> Unit {
        if self.owed_deletes > 0 {
            self.owed_deletes -= 1;
            return Unit::Delete(self.delete());
        }
        let filled = self.changes >= self.script.fill;
        let left = if filled { BATCH } else { BATCH.min((self.script.fill - self.changes) as usize) };
        let batch = (0..left).map(|_| self.upsert(filled)).collect();
        if filled && self.script.workload == SoakWorkload::Delete {
            self.owed_deletes = BATCH;
        }
        Unit::Upserts(batch)
    }

    /// Makes changes until there are so many, or a few more where a unit ends later.
    pub(super) fn advance_to(&mut self, changes: u32) {
        while self.changes < changes {
            self.next();
        }
    }

    fn upsert(&mut self, filled: bool) -> Change {
        let rows = self.last.len() as u64;
        let overwrites = filled
            && match self.script.workload {
                SoakWorkload::Insert => self.rng.below(100) < OVERWRITES_OF_HUNDRED,
                SoakWorkload::Overwrite => true,
                SoakWorkload::Delete => false,
            };
        let row = if overwrites && rows > 0 { below(&mut self.rng, rows) } else { self.new_row() };
        let change = self.change(row);
        self.upserts += 1;
        self.last[row as usize] = change.n + 1;
        change
    }

    fn new_row(&mut self) -> u32 {
        let row = u32::try_from(self.last.len()).expect("fewer changes than fit 32 bits");
        self.last.push(0);
        self.live_rows += 1;
        if self.script.workload == SoakWorkload::Delete {
            self.live.push(row);
        }
        row
    }

    fn delete(&mut self) -> Change {
        let at = below(&mut self.rng, self.live.len() as u64) as usize;
        let row = self.live.swap_remove(at);
        self.last[row as usize] = 0;
        self.live_rows -= 1;
        self.change(row)
    }

    fn change(&mut self, row: u32) -> Change {
        let n = self.changes;
        self.changes += 1;
        Change { n, row }
    }
}

fn below(rng: &mut Rng, bound: u64) -> u32 {
    u32::try_from(rng.below(bound)).expect("rows are numbered by 32 bits")
}

/// The id of a row.
pub(super) fn id_of(row: u32) -> i64 {
    i64::from(row.wrapping_mul(SCATTER))
}

/// The row of an id; none if no row has it.
pub(super) fn row_of(id: i64) -> Option<u32> {
    u32::try_from(id).ok().map(|id| id.wrapping_mul(GATHER))
}

/// Newton's steps: each doubles the low bits that are right.
const fn inverse(odd: u32) -> u32 {
    let (mut found, mut step) = (odd, 0);
    while step < 5 {
        found = found.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(workload: SoakWorkload, fill: u32) -> Model {
        Model::new(Script { workload, seed: 7, fill })
    }

    #[test]
    fn a_seed_makes_the_same_changes_however_they_are_reached() {
        for workload in [SoakWorkload::Insert, SoakWorkload::Overwrite, SoakWorkload::Delete] {
            let (mut a, mut b) = (model(workload, 25), model(workload, 25));
            for _ in 0..200 {
                a.next();
            }
            b.advance_to(a.changes() / 2);
            b.advance_to(a.changes());
            assert_eq!((a.changes(), &a.last, a.live_rows()), (b.changes(), &b.last, b.live_rows()));
            assert_eq!(a.next(), b.next());
            assert_eq!(a.last.iter().filter(|n| **n > 0).count(), a.live_rows() as usize);
        }
    }

    #[test]
    fn three_of_ten_overwrite_a_row_and_the_others_are_new() {
        let mut model = model(SoakWorkload::Insert, 0);
        model.advance_to(20_000);
        let new = f64::from(model.live_rows()) / 20_000.0;
        assert!((0.69..0.71).contains(&new), "{new}");
        assert_eq!((model.upserts(), model.changes()), (20_000, 20_000));
    }

    #[test]
    fn a_fill_ends_on_its_row_and_churn_keeps_the_rows_as_many() {
        let mut overwrites = model(SoakWorkload::Overwrite, 25);
        overwrites.advance_to(1_000);
        assert_eq!(overwrites.live_rows(), 25);
        let mut deletes = model(SoakWorkload::Delete, 25);
        deletes.advance_to(25);
        assert_eq!((deletes.changes(), deletes.live_rows()), (25, 25));
        deletes.advance_to(25 + 20 * 50);
        assert_eq!((deletes.live_rows(), deletes.upserts()), (25, 25 + 10 * 50));
        assert!(deletes.last.len() > 400, "deleted rows do not come back");
    }

    #[test]
    fn an_id_leads_back_to_its_row() {
        for row in [0, 1, 2, 77_777, u32::MAX] {
            assert_eq!(row_of(id_of(row)), Some(row));
        }
        assert_eq!((row_of(-1), row_of(1 << 32)), (None, None));
    }
}
