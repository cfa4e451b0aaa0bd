//! Flushes and merges of a life, and the operations in the middle of them.

use akidb::Db;

use super::errors::outcome;
use super::reads::{find, look_up};
use super::world::{Inside, World};
use super::writes::write;

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

pub(crate) fn flush(world: &World, db: &Db) {
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
pub(crate) fn merge(world: &World, db: &Db) {
    let merged = world.inside(Inside::Merge, || db.compact());
    world.note(&format!("merge: {}", outcome(&merged)));
    let mut state = world.state();
    match merged {
        Ok(merges) => state.report.merges += merges,
        Err(error) => state.expects(&error),
    }
}
