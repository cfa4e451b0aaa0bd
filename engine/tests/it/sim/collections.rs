//! Collections of a life that come and go.

use akidb::{Db, Schema};

use super::errors::outcome;
use super::flushes::flush;
use super::life::Life;
use super::rows::schema;
use super::truth::Event;
use super::writes::wait;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

impl Life {
    /// Creates a collection that is not there, or drops one that is.
    pub(crate) fn change_collections(&self, db: &Db) {
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
}
