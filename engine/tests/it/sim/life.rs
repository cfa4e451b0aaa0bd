//! Random operations of one world, and the crashes tried at each moment of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use akidb::{
    Batch, Collection, Db, Durability, Error, ErrorKind, Fate, Lsn, NewRow, Receipt, Result, Schema, Settings,
};
use akidb_host::Rng;
use akidb_host::sim::{CrashDisk, EIO, ENOSPC};

use super::machine::{Fault, Inside, Machine, Moment, World, settings};
use super::report::Report;
use super::rows::{Scale, expire, id, payload, schema, search, vector};
use super::truth::{Event, Keyed, Op, Row, Tables, Truth, difference, read};

/// Longer than it takes a database of any size to come to rest.
const LONG_QUIET: Duration = Duration::from_secs(40);
const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

struct Life {
    world: Arc<World>,
    machine: Machine,
    settings: Settings,
}

/// One world, from an empty disk to its end.
pub(crate) fn run(seed: u64) -> Report {
    let world = World::new(seed);
    let (settings, disk_seed, steps) = {
        let mut state = world.state();
        let steps = if state.scale == Scale::Large { 40 } else { 60 + state.rng.below(100) };
        let mut settings = settings(state.scale, &mut state.rng);
        if state.shows_unsynced {
            settings.engine.durability = Durability::Memory;
        }
        (settings, state.rng.u64(), steps)
    };
    let machine = Machine::watched(CrashDisk::new(disk_seed), &world);
    let mut life = Life { world, machine, settings };
    life.open();
    for _ in 0..steps {
        life.step();
        life.crash_everywhere();
    }
    life.reopen(0);
    let world = &life.world;
    check(world, &life.db());
    life.end();
    let mut state = life.world.state();
    state.report.steps = steps;
    state.report.log_hash = state.log_hash();
    state.report.clone()
}

impl Life {
    fn scale(&self) -> Scale {
        self.world.state().scale
    }

    fn db(&self) -> Db {
        self.world.state().db.clone().expect("it is open between steps")
    }

    /// Opens the database and compares what it holds. A disk that fails is an error once; then it is well again.
    fn open(&mut self) {
        let db = match self.try_open() {
            Ok(db) => db,
            Err(error) => {
                let mut state = self.world.state();
                assert!(state.ill, "a crash looks like damage: {error}");
                assert_is_typed(&error);
                state.fault = None;
                drop(state);
                self.machine.disk.set_free_bytes(None);
                self.try_open().unwrap_or_else(|e| panic!("a disk that is well again does not open: {e}"))
            }
        };
        self.world.state().fault = None;
        self.machine.disk.set_free_bytes(None);
        let found = read(&db, self.scale()).unwrap_or_else(|e| panic!("what was opened cannot be read: {e}"));
        let mut state = self.world.state();
        if state.shows_unsynced && !state.power_failed && !state.ill {
            // Only the process died: what was acknowledged was in the page cache.
            state.truth.promise(Lsn::MAX);
        }
        state.truth.found(found);
        state.db = Some(db);
        (state.ill, state.must_reopen, state.power_failed) = (false, false, false);
    }

    fn try_open(&self) -> Result<Db> {
        let seed = self.world.state().rng.u64();
        let opened = self.machine.open(&self.settings, seed);
        self.world.note(&format!("open: {}", outcome(&opened.as_ref().map(|_| ()))));
        opened
    }

    /// The process ends, or the machine does, or only the handle.
    fn reopen(&mut self, way: u64) {
        self.world.note(&format!("reopen {way}"));
        self.world.state().report.reopens += 1;
        self.world.state().receipts.clear();
        if way == 0 {
            let closed = self.db().close();
            self.world.note(&format!("close: {}", outcome(&closed)));
            let mut state = self.world.state();
            match closed {
                // Whether a collection of unknown fate is there, no close can tell.
                Ok(()) => state.truth.promise(Lsn::MAX),
                Err(error) => state.expects(&error),
            }
        }
        self.world.state().power_failed |= way >= 3;
        let disk = {
            let rng = &mut Rng::seeded(self.world.state().rng.u64());
            let disk = &self.machine.disk;
            match way {
                0 | 1 => disk.clone(),
                2 => disk.kill(),
                3 => disk.power_cut(rng),
                _ => disk.kill().power_cut(rng),
            }
        };
        self.end();
        self.machine = Machine::watched(disk, &self.world);
        self.open();
    }

    /// The handle goes away; nobody looks at what it still does.
    fn end(&self) {
        let db = self.world.state().db.take();
        self.world.inside(Inside::Gone, || drop(db));
    }

    fn step(&mut self) {
        if self.world.state().must_reopen {
            let way = self.world.below(5);
            return self.reopen(way);
        }
        let (world, db) = (&self.world, self.db());
        match world.below(100) {
            0..44 => write(world, &db),
            44..50 => look_up(world, &db),
            50..53 => check(world, &db),
            53..57 => find(world, &db),
            57..64 => wait(world),
            64..66 => flush(world, &db),
            66..69 => merge(world, &db),
            69..80 => {
                let steps = 1 + world.below(4);
                world.inside(Inside::Flush, || self.machine.step(steps));
            }
            80..84 => {
                // Now and then so long that the database comes to rest.
                let micros = world.below(7_000);
                let long = micros % 8 == 0;
                let by = if long { LONG_QUIET } else { Duration::from_micros(micros) };
                world.state().report.quiets += u64::from(long);
                world.inside(Inside::Flush, || self.machine.rest(by));
            }
            84..86 => self.machine.jump((world.below(9) as i64 - 4) * DAY_MICROS),
            86..90 => self.change_collections(&db),
            90..94 => self.arm(),
            94..96 => self.heal(&db),
            _ => {
                drop(db);
                let way = self.world.below(5);
                self.reopen(way);
            }
        }
    }

    fn arm(&self) {
        let mut state = self.world.state();
        if state.rng.below(5) == 0 {
            let free = 4096 * state.rng.below(24);
            self.machine.disk.set_free_bytes(Some(free));
            state.ill = true;
            return;
        }
        let errno = if state.rng.below(3) == 0 { ENOSPC } else { EIO };
        let (left, reads) = (1 + state.rng.below(20), state.rng.below(3) == 0);
        state.fault = Some(Fault { left, errno, reads });
    }

    /// Once the disk is well again so is the engine, or it said that it wants to be opened again.
    fn heal(&self, db: &Db) {
        self.machine.disk.set_free_bytes(None);
        self.world.state().fault = None;
        if !self.world.state().ill {
            return;
        }
        self.world.inside(Inside::Call, || self.machine.rest(Duration::from_secs(60)));
        if db.stats().is_ok_and(|stats| stats.poisoned.is_some()) {
            self.world.state().must_reopen = true;
        }
        // What goes wrong from here on is a mistake, unless it is said that a reopen is needed.
        if !self.world.state().must_reopen {
            self.world.state().ill = false;
            write(&self.world, db);
        }
    }

    /// Creates a collection that is not there, or drops one that is.
    fn change_collections(&self, db: &Db) {
        let world = &self.world;
        while !world.state().receipts.is_empty() {
            wait(world);
        }
        // What is not synced yet may be lost while the collection is not.
        if world.state().shows_unsynced {
            flush(world, db);
        }
        if world.state().must_reopen || !world.state().truth.later.is_empty() {
            return;
        }
        let name = NAMES[world.below(3) as usize];
        let table = world.state().truth.promised.get(name).cloned();
        let result = match table {
            Some(_) if world.below(2) == 0 => {
                world.state().truth.begins(Event::Drop(name.to_owned()));
                db.drop_collection(name)
            }
            Some(table) => return assert!(self.creates_again(db, name, table.schema)),
            None => {
                let schema = schema(&mut world.state().rng);
                world.state().truth.begins(Event::Create(name.to_owned(), schema.clone()));
                db.create_collection(name, schema).map(drop)
            }
        };
        world.note(&format!("create or drop {name}: {}", outcome(&result)));
        let mut state = world.state();
        match &result {
            Ok(()) => state.truth.promise_all(),
            Err(error) => state.fails(error),
        }
    }

    fn creates_again(&self, db: &Db, name: &str, schema: Schema) -> bool {
        let again = db.create_collection(name, schema);
        again.map_or_else(
            |error| {
                self.world.state().expects(&error);
                true
            },
            |rows| rows.name().is_ok(),
        )
    }

    fn crash_everywhere(&self) {
        if self.world.below(12) == 0 {
            self.world.state().keep(&self.machine.disk);
        }
        for moment in self.world.moments() {
            let mut rng = Rng::seeded(self.world.state().rng.u64());
            let (kept, taken) = self.crash(&moment, &mut rng);
            let report = &mut self.world.state().report;
            report.crashes += 1;
            report.kept += kept;
            report.taken += taken;
        }
    }

    /// A reader finds it too, and changes nothing.
    fn look_only(&self, machine: &Machine, mut truth: Truth) {
        match machine.look(&self.settings) {
            Ok(db) => drop(truth.found(read(&db, self.scale()).expect("what was opened can be read"))),
            Err(error) => {
                let nothing = error.kind() == ErrorKind::NotFound && truth.promised.is_empty();
                assert!(nothing, "a crash looks like damage to a reader: {error}");
            }
        }
    }

    /// What a crash at that moment leaves is what was promised, and works.
    fn crash(&self, moment: &Moment, rng: &mut Rng) -> (u64, u64) {
        let (killed, scale) = (rng.below(6) == 0, self.scale());
        let disk = if killed { moment.disk.kill() } else { moment.disk.power_cut(rng) };
        disk.set_free_bytes(None);
        let machine = Machine::plain(disk, rng);
        let mut truth = moment.truth.clone();
        if killed && moment.well && self.settings.engine.durability == Durability::Memory {
            truth.promise(Lsn::MAX);
        }
        if rng.below(8) == 0 {
            self.look_only(&machine, truth.clone());
        }
        let mut open = || {
            let db = machine.open(&self.settings, rng.u64());
            db.unwrap_or_else(|e| panic!("a crash looks like damage: {e}"))
        };
        let db = open();
        let counts = truth.found(read(&db, scale).expect("what was opened can be read"));
        send_again(&db, &truth.keyed).expect("what was acknowledged is answered again");
        if counts.0 + counts.1 == 0 && moment.truth.later.is_empty() {
            return counts;
        }
        machine.rest(Duration::from_secs(1));
        db.flush().expect("nothing fails");
        truth.found(read(&db, scale).expect("what was flushed can be read"));
        drop(db);
        let db = open();
        truth.found(read(&db, scale).expect("what was opened again can be read"));
        send_again(&db, &truth.keyed).expect("what was acknowledged is answered from the manifest");
        counts
    }
}

impl super::machine::State {
    /// The event that was begun last ended in this error.
    fn fails(&mut self, error: &Error) {
        match error.fate() {
            Fate::NotWritten => self.truth.refused(),
            Fate::Unknown => {}
            Fate::Durable => self.truth.promise_all(),
        }
        self.expects(error);
    }

    /// Refuses an error that nothing gave cause to.
    fn expects(&mut self, error: &Error) {
        assert_is_typed(error);
        let full = matches!(error.kind(), ErrorKind::Full { .. });
        let closed = self.must_reopen && error.kind() == ErrorKind::Closed;
        assert!(self.ill || full || closed || self.must_reopen, "for no reason: {error}");
        self.report.refused += 1;
        if matches!(error.kind(), ErrorKind::Poisoned) || error.fate() != Fate::NotWritten {
            self.report.poisoned += u64::from(!self.must_reopen);
            self.must_reopen = true;
        }
    }
}

fn assert_is_typed(error: &Error) {
    let kind = error.kind();
    let known = matches!(
        kind,
        ErrorKind::Full { .. }
            | ErrorKind::NoSpace
            | ErrorKind::Unavailable
            | ErrorKind::Poisoned
            | ErrorKind::Corrupt
            | ErrorKind::Closed
    );
    assert!(known, "not an error of a bad disk: {kind:?}: {error}");
    let placed = error.file().is_some() || !matches!(kind, ErrorKind::Unavailable | ErrorKind::Corrupt);
    assert!(placed, "no file is named: {error}");
}

fn outcome<T: std::fmt::Debug, E: std::borrow::Borrow<Error>>(result: &std::result::Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.borrow().to_string(),
    }
}

/// The outcome of the write that was begun last: where it was put.
fn settle(world: &World, result: Result<(Lsn, Lsn)>) {
    let mut state = world.state();
    match result {
        Ok(at) => {
            state.truth.placed(at);
            if !state.shows_unsynced {
                state.truth.promise(at.1);
            }
        }
        Err(error) => state.fails(&error),
    }
}

/// An operation in the middle of a flush.
pub(crate) fn nested(world: &World, db: &Db, flushes: bool) {
    if world.state().must_reopen {
        return;
    }
    world.state().report.nested += 1;
    match world.below(8) {
        0..4 if flushes => {
            write(world, db);
            flush(world, db);
        }
        0..6 => write(world, db),
        6 => look_up(world, db),
        _ => find(world, db),
    }
}

/// Writes, deletes, or submits what nobody waits for yet.
fn write(world: &World, db: &Db) {
    let Some((rows, schema)) = pick(world, db) else { return };
    let name = rows.name().unwrap_or_default();
    let (way, count) = {
        let mut state = world.state();
        let (way, most) = (state.rng.below(12), state.scale.batch());
        (way, if way < 3 { 1 + state.rng.below(most) } else { 1 })
    };
    let ops = new_ops(world, &schema, count, way >= 9);
    let event = Event::Write { table: name.clone(), ops: Arc::new(ops.clone()), lsns: None };
    let expected = world.state().truth.holds(&name, &ops[0].id);
    world.state().truth.begins(event);
    let (first, n) = (&ops[0], ops.len() as u64);
    let result = match way {
        9.. => rows.delete(first.id.clone()).map(|existed| {
            assert_eq!(existed, expected, "a delete says whether there was a row");
            let lsn = db.visible_lsn().expect("the database is open");
            (lsn, lsn)
        }),
        0 => write_keyed(world, db, &name, &ops),
        1 => rows
            .upsert_batch(&new_rows(&ops))
            .map(|last| (Lsn::new(last.epoch(), last.counter() + 1 - n), last)),
        2..5 => {
            let receipt = rows.submit(&new_rows(&ops));
            world.note(&format!("submit {n} to {name}: {}", outcome(&receipt.as_ref().map(Receipt::last))));
            return submitted(world, receipt);
        }
        _ => {
            let row = first.row.as_ref().expect("it is no delete");
            let lsn = rows.upsert(first.id.clone(), &row.vector, row.payload.clone());
            lsn.map(|lsn| (lsn, lsn))
        }
    };
    world.note(&format!("write {n} to {name}, {}: {}", first.id, outcome(&result)));
    settle(world, result);
}

/// Writes under a key of its own.
fn write_keyed(world: &World, db: &Db, name: &str, ops: &[Op]) -> Result<(Lsn, Lsn)> {
    let mut batch = Batch::new();
    for row in new_rows(ops) {
        batch.upsert(name, row);
    }
    batch.idempotency_key(format!("key {}", world.state().versions));
    let last = db.write(&batch)?;
    let at = (Lsn::new(last.epoch(), last.counter() + 1 - ops.len() as u64), last);
    let mut state = world.state();
    if !state.shows_unsynced {
        state.truth.keep_keyed(name.to_owned(), batch, at);
    }
    Ok(at)
}

/// What was acknowledged is sent again: it is answered, and not written.
fn send_again(db: &Db, keyed: &[Arc<Keyed>]) -> Result<()> {
    for Keyed { batch, at, .. } in keyed.iter().map(|keyed| &**keyed) {
        let receipt = db.submit(batch)?;
        assert!(receipt.is_repeat(), "{batch:?} was written again");
        assert_eq!((receipt.first(), receipt.last()), *at, "{batch:?}");
        receipt.wait()?;
    }
    Ok(())
}

fn submitted(world: &World, receipt: Result<Receipt>) {
    match receipt {
        Ok(receipt) => {
            let mut state = world.state();
            state.truth.placed((receipt.first(), receipt.last()));
            state.receipts.push(receipt);
        }
        Err(error) => settle(world, Err(error)),
    }
}

fn new_rows(ops: &[Op]) -> Vec<NewRow> {
    let row = |op: &Op| {
        let row = op.row.as_ref().expect("it is no delete");
        NewRow { id: op.id.clone(), vector: row.vector.clone(), payload: row.payload.clone() }
    };
    ops.iter().map(row).collect()
}

/// Rows of so many different ids, or a delete.
fn new_ops(world: &World, schema: &Schema, count: u64, delete: bool) -> Vec<Op> {
    let mut state = world.state();
    let (scale, ids) = (state.scale, state.scale.ids());
    let (mut ops, mut taken): (Vec<Op>, _) = (Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let id = id(schema, state.rng.below(ids));
        if !taken.insert(id.clone()) {
            continue;
        }
        state.versions += 1;
        let version = state.versions;
        let rng = &mut state.rng;
        let row = || {
            let (vector, mut payload) = (vector(schema, rng), payload(scale, version, rng));
            expire(schema, version, &mut payload);
            Arc::new(Row { lsn: None, vector, payload })
        };
        ops.push(Op { id, row: (!delete).then(row) });
    }
    ops
}

/// A collection that is there.
fn pick(world: &World, db: &Db) -> Option<(Collection, Schema)> {
    let (name, schema) = {
        let mut state = world.state();
        let tables = state.truth.promised.len() as u64;
        let at = state.rng.below(tables);
        let (name, table) = state.truth.promised.iter().nth(usize::try_from(at).ok()?)?;
        (name.clone(), table.schema.clone())
    };
    Some((db.collection(&name).unwrap_or_else(|e| panic!("{name} is not there: {e}")), schema))
}

/// What reads see now. Unless writes count before they are synced it is synced, and so must be found from now on.
fn shown(world: &World, db: &Db) -> Tables {
    let visible = db.visible_lsn().expect("the database is open");
    let mut state = world.state();
    if !state.shows_unsynced {
        state.truth.promise(visible);
    }
    state.truth.at(visible)
}

fn look_up(world: &World, db: &Db) {
    let Some((rows, schema)) = pick(world, db) else { return };
    let tables = shown(world, db);
    let ids = world.state().scale.ids();
    let id = id(&schema, world.below(ids));
    let got = rows.get(id.clone());
    world.note(&format!("get {id}: {}", outcome(&got.as_ref().map(|row| row.as_ref().map(|row| row.lsn)))));
    let mut state = world.state();
    match got {
        Err(error) => state.expects(&error),
        Ok(got) => {
            let name = rows.name().expect("the database is open");
            let row = tables[&name].rows.get(&id);
            assert_eq!(got.is_some(), row.is_some(), "{name}/{id}");
            if let Some((got, row)) = got.zip(row) {
                assert!(
                    got.vector == row.vector && got.payload == row.payload,
                    "{name}/{id} is not what was written"
                );
            }
        }
    }
}

fn check(world: &World, db: &Db) {
    let tables = shown(world, db);
    // Also asserts the chains of its watermarks.
    let synced = db.stats().expect("the database is open").watermarks.synced;
    world.state().truth.promise(synced.parse().expect("an LSN"));
    let scale = world.state().scale;
    let found = read(db, scale);
    let keyed = world.state().truth.keyed.clone();
    let again = send_again(db, &keyed);
    world.note(&format!("send {} again: {}", keyed.len(), outcome(&again)));
    if let Err(error) = again {
        world.state().expects(&error);
    }
    world.note(&format!("check: {}", outcome(&found.as_ref().map(|found| found.len()))));
    let mut state = world.state();
    match found {
        Err(error) => state.expects(&error),
        Ok(found) => {
            let wrong = difference(&tables, &found);
            assert!(wrong.is_empty(), "the database shows something else:\n{wrong}");
        }
    }
}

fn find(world: &World, db: &Db) {
    let Some((rows, _)) = pick(world, db) else { return };
    let tables = shown(world, db);
    let name = rows.name().expect("the database is open");
    let seed = world.state().rng.u64();
    let found = search(&rows, &tables[&name], &mut Rng::seeded(seed));
    world.note(&format!("search {name}: {}", outcome(&found)));
    let mut state = world.state();
    state.report.searches += 1;
    if let Err(error) = found {
        state.expects(&error);
    }
}

/// Waits for one of the writes that nobody has waited for.
fn wait(world: &World) {
    let receipt = {
        let mut state = world.state();
        let receipts = state.receipts.len() as u64;
        let at = state.rng.below(receipts);
        if state.receipts.is_empty() {
            return;
        } else {
            state.receipts.swap_remove(usize::try_from(at).expect("small"))
        }
    };
    let waited = receipt.wait();
    world.note(&format!("wait for {}: {}", receipt.last(), outcome(&waited)));
    let mut state = world.state();
    match waited {
        Ok(last) => state.truth.promise(last),
        Err(error) => state.expects(&error),
    }
}

fn flush(world: &World, db: &Db) {
    let visible = db.visible_lsn().expect("the database is open");
    let inside = if world.state().inside == Inside::Nested { Inside::Nested } else { Inside::Flush };
    let flushed = world.inside(inside, || db.flush());
    world.note(&format!("flush: {}", outcome(&flushed)));
    let mut state = world.state();
    state.report.flushes += 1;
    match flushed {
        Ok(()) => state.truth.promise(visible),
        Err(error) => state.expects(&error),
    }
}

/// Merges segments until none are left to merge.
fn merge(world: &World, db: &Db) {
    let merged = world.inside(Inside::Merge, || db.compact());
    world.note(&format!("merge: {}", outcome(&merged)));
    let mut state = world.state();
    match merged {
        Ok(merges) => state.report.merges += merges,
        Err(error) => state.expects(&error),
    }
}
