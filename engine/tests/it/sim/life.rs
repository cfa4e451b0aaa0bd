//! Random operations of one world, from an empty disk to its end.

use std::sync::Arc;
use std::time::Duration;

use akidb::{Db, Durability, Lsn, Result, Settings};
use akidb_host::Rng;
use akidb_host::sim::CrashDisk;

use super::backend::Away;
use super::errors::{assert_is_typed, outcome};
use super::flushes::{flush, merge};
use super::machine::{Machine, settings};
use super::names::look_at_names;
use super::reads::{check, find, look_up};
use super::report::Report;
use super::rows::Scale;
use super::truth::read;
use super::uploads::rob;
use super::world::{Inside, World};
use super::writes::{wait, write};

/// Longer than it takes a database of any size to come to rest.
const LONG_QUIET: Duration = Duration::from_secs(40);
const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
}

/// One world, from an empty disk to its end.
pub(crate) fn run(seed: u64) -> Report {
    let world = World::new(seed);
    let (settings, disk_seed, steps) = {
        let mut state = world.state();
        let steps = match state.scale {
            Scale::Small => 60 + state.rng.below(100),
            Scale::Large => 40,
            Scale::Heavy => 80,
        };
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
        life.more();
        life.restore_everywhere();
        life.crash_everywhere();
    }
    life.reopen(0);
    let world = &life.world;
    check(world, &life.db());
    life.settle();
    life.end();
    let mut state = life.world.state();
    state.report.steps = steps;
    state.report.hangs = state.away.as_ref().map_or(0, Away::hangs);
    state.report.log_hash = state.log_hash();
    state.report.clone()
}

impl Life {
    pub(crate) fn scale(&self) -> Scale {
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
        state.db = Some(db.clone());
        (state.ill, state.must_reopen, state.power_failed) = (false, false, false);
        drop(state);
        look_at_names(&self.world, &db);
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
        if self.world.state().away.is_some() && self.world.extra(4) == 0 {
            rob(&disk);
        }
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

    /// Something of what only some worlds have.
    fn more(&self) {
        let (has_backend, has_names) = {
            let state = self.world.state();
            (state.away.is_some() && !state.must_reopen, state.has_names)
        };
        // What is heavy takes more steps to grow.
        let one_in = if self.scale() == Scale::Heavy { 6 } else { 3 };
        if has_backend && self.world.extra(one_in) == 0 {
            self.upload(&self.db());
        }
        if has_names && !self.world.state().must_reopen && self.world.extra(10) == 0 {
            match self.world.extra(3) {
                0 => look_at_names(&self.world, &self.db()),
                _ => self.change_names(&self.db()),
            }
        }
    }

    /// What must hold at the end of what only some worlds have.
    fn settle(&self) {
        look_at_names(&self.world, &self.db());
        if self.world.state().away.is_some() {
            self.drain(&self.db());
            self.restore_everywhere();
            self.check_store();
        }
    }
}
