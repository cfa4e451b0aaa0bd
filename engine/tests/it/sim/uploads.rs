//! Uploads of a life: the weather between it and its backend, what is published, and crashes with the store kept.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::object_store::memory::InMemory;
use akidb::{Db, ErrorKind, Op, Which};
use akidb_backends::fault::FaultStore;
use akidb_host::sim::CrashDisk;
use akidb_host::{EntryKind, Fs, Rng};

use super::backend::{Changed, change_weather, clear};
use super::errors::outcome;
use super::flushes::flush;
use super::life::Life;
use super::machine::{DIR, Machine};
use super::restores::{check_all, documents, files, object, restored};
use super::truth::read;
use super::world::{Inside, Moment};
use super::writes::{wait, write};

/// A well store takes everything within so many pauses: its breakers may have to be waited for, twice.
pub(crate) const PAUSES: u32 = 1_200;
/// Longer than documents are kept, and than what none names is spared.
const MOST_HOURS: u64 = 30;

impl Life {
    /// Something happens between the database and its backend.
    pub(crate) fn upload(&self, db: &Db) {
        let way = self.world.extra(10);
        match way {
            0 | 1 => {
                let state = &mut *self.world.state();
                if let Some(away) = &state.away {
                    change_weather(&away.faults, &mut state.extra);
                }
            }
            2 => self.drain(db),
            3 | 4 => self.wait_long(),
            _ => {
                let pauses = 1 + self.world.extra(6);
                self.world.inside(Inside::Flush, || (0..pauses).for_each(|_| self.machine.pass()));
            }
        }
    }

    /// Hours pass, so that on the backend something grows old.
    fn wait_long(&self) {
        let hours = 1 + self.world.extra(MOST_HOURS);
        self.world.note(&format!("{hours} hours pass"));
        self.world.inside(Inside::Flush, || {
            self.machine.rest(Duration::from_secs(3_600 * hours));
            self.machine.pass();
        });
    }

    /// Once its store is well, everything that was flushed goes up by itself, and a restore is the database.
    pub(crate) fn drain(&self, db: &Db) {
        if self.is_unwell() {
            return;
        }
        if let Some(away) = &self.world.state().away {
            clear(&away.faults);
        }
        // Nothing is left, and nothing comes in between, that would not be flushed.
        while !self.world.state().receipts.is_empty() {
            wait(&self.world);
        }
        self.world.inside(Inside::Nested, || flush(&self.world, db));
        for _ in 0..PAUSES {
            if self.is_unwell() {
                return;
            }
            if is_uploaded(db) {
                let visible = db.visible_lsn().expect("the database is open");
                let (store, tables) = {
                    let state = self.world.state();
                    (state.away.as_ref().expect("it has one").copy(), state.truth.at(visible))
                };
                let seed = self.world.extra(u64::MAX);
                let found = restored(&store, self.scale(), &mut Rng::seeded(seed));
                found.expect("something was published").is(&tables);
                self.world.state().report.drains += 1;
                self.world.note("all is uploaded");
                return self.goes_on(db);
            }
            self.machine.pass();
        }
        panic!("not uploaded after {PAUSES} pauses: {:?}", db.stats().map(|stats| stats.backends));
    }

    /// No write waits for a backend that has everything.
    fn goes_on(&self, db: &Db) {
        let held = self.world.state().report.held;
        write(&self.world, db);
        assert_eq!(self.world.state().report.held, held, "the backend has everything");
    }

    fn is_unwell(&self) -> bool {
        let state = self.world.state();
        state.ill || state.must_reopen
    }

    /// Restores from the backend as it was after each document since the last look, and after what was removed meanwhile.
    pub(crate) fn restore_everywhere(&self) {
        let changed = {
            let mut state = self.world.state();
            let Some(away) = &mut state.away else { return };
            std::mem::take(&mut away.changed)
        };
        let mut changed = changed.into_iter().peekable();
        while let Some(Changed { store, is_published }) = changed.next() {
            // Of many that go at once, once all are gone.
            if !is_published && changed.peek().is_some_and(|next| !next.is_published) {
                continue;
            }
            if !is_published {
                check_all(&store);
            }
            let seed = self.world.extra(u64::MAX);
            let found = restored(&store, self.scale(), &mut Rng::seeded(seed));
            let state = &mut *self.world.state();
            let away = state.away.as_mut().expect("it has one");
            match found {
                Some(found) => {
                    found.check(&state.truth);
                    away.holds_any = true;
                    state.report.restores += 1;
                }
                None => assert!(!away.holds_any, "what was published is gone"),
            }
        }
    }

    /// At the end every document there is still whole.
    pub(crate) fn check_store(&self) {
        let store = self.world.state().away.as_ref().map(|away| Arc::clone(&away.store));
        if let Some(store) = store {
            check_all(&store);
        }
    }

    /// What the crashed machine had not uploaded goes up after its open, whether its notes are there or not, and no more.
    pub(crate) fn crash_with_store(
        &self,
        moment: &Moment,
        store: &Arc<InMemory>,
        disk: CrashDisk,
        rng: &mut Rng,
    ) {
        self.world.state().report.store_crashes += 1;
        let is_robbed = rng.below(2) == 0;
        if is_robbed {
            rob(&disk);
        }
        let before = Arc::new(store.fork());
        let there = Arc::new(store.fork());
        let faults = FaultStore::new(Arc::clone(&there) as _);
        let machine = Machine::plain(disk, rng).with_store(Arc::new(faults.clone()));
        let mut truth = moment.truth.clone();
        let db = machine.open(&self.settings, rng.u64());
        let db = db.unwrap_or_else(|e| panic!("a crash looks like damage: {e}"));
        truth.found(read(&db, self.scale()).expect("what was opened can be read"));
        uploaded(&machine, &db);
        let put: BTreeSet<String> =
            faults.calls().into_iter().filter(|c| c.op == Op::Put).map(|c| c.key).collect();
        let named = files(documents(&before).last());
        for (key, file) in files(documents(&there).last()) {
            let (is_named, was_put) = (named.contains_key(&key), put.contains(&key));
            assert!(!is_named || !was_put, "{key} was named, and put again");
            let noted = !is_robbed && object(&before, &key) == Some(file);
            assert!(is_named || was_put || noted, "{key} was not pending");
        }
        db.flush().expect("nothing fails");
        uploaded(&machine, &db);
        let found = restored(&there, self.scale(), rng).expect("something was published");
        found.is(&read(&db, self.scale()).expect("what was flushed can be read"));
        check_all(&there);
        truth.found(found.tables);
    }
}

fn uploaded(machine: &Machine, db: &Db) {
    let is_up = (0..PAUSES).any(|_| {
        let is_up = is_uploaded(db);
        machine.pass();
        is_up
    });
    assert!(is_up, "not uploaded after {PAUSES} pauses: {:?}", db.stats().map(|stats| stats.backends));
}

/// Whether the backend has everything. Letters are tried again as a person would.
pub(crate) fn is_uploaded(db: &Db) -> bool {
    let waited = db.wait_uploaded(Duration::ZERO);
    if let Err(error) = &waited {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        db.backends().retry_all(&Which::all()).unwrap_or_else(|e| panic!("{}", outcome::<(), _>(&Err(e))));
    }
    waited.is_ok()
}

/// Takes away what only saves work.
pub(crate) fn rob(disk: &CrashDisk) {
    for part in ["dlq", "uploads"] {
        let dir = Path::new(DIR).join(part);
        for entry in disk.list(&dir).unwrap_or_default() {
            if entry.kind == EntryKind::File {
                disk.unlink(&dir.join(entry.name)).expect("nothing fails");
            }
        }
    }
}
