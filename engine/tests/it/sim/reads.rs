//! Reads of a life, each compared with what must be found.

use akidb::Db;
use akidb_host::Rng;

use super::errors::outcome;
use super::rows::{id, search};
use super::truth::{Tables, difference, read};
use super::world::World;
use super::writes::{pick, send_again};

/// What reads see now. Unless writes count before they are synced it is synced, and so must be found from now on.
fn shown(world: &World, db: &Db) -> Tables {
    let visible = db.visible_lsn().expect("the database is open");
    let mut state = world.state();
    if !state.shows_unsynced {
        state.truth.promise(visible);
    }
    state.truth.at(visible)
}

pub(crate) fn look_up(world: &World, db: &Db) {
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

pub(crate) fn check(world: &World, db: &Db) {
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

pub(crate) fn find(world: &World, db: &Db) {
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
