//! Named snapshots of a life: made, removed, and each the database at its LSN for as long as it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use akidb::{Db, Fate, Lsn, NamedSnapshot, Result};

use super::errors::outcome;
use super::life::Life;
use super::rows::Scale;
use super::truth::{Table, Tables, Truth, differs, read_table};
use super::world::{Inside, World};

/// Kept at the same time, at most.
const NAMES: [&str; 3] = ["monday", "tuesday", "wednesday"];

/// Snapshots as they were read, with their LSNs.
pub(crate) type Seen = BTreeMap<String, (Lsn, Tables)>;

/// What named snapshots are there, and the change of them that is under way.
#[derive(Clone, Default)]
pub(crate) struct Names {
    kept: BTreeMap<String, Arc<Kept>>,
    /// Made, if it is not kept, or else removed.
    changing: Option<String>,
}

/// The LSN of a snapshot, and what its collections may be: one state each, once it was looked at.
struct Kept {
    lsn: Lsn,
    allowed: BTreeMap<String, Vec<Table>>,
}

impl Names {
    pub(crate) fn is_idle(&self) -> bool {
        self.kept.is_empty() && self.changing.is_none()
    }
}

impl Life {
    /// Makes a snapshot, or removes the one of that name.
    pub(crate) fn change_names(&self, db: &Db) {
        let world = &self.world;
        let name = NAMES[usize::try_from(world.extra(NAMES.len() as u64)).expect("small")];
        let is_kept = {
            let names = &mut world.state().truth.names;
            names.changing = Some(name.to_owned());
            names.kept.contains_key(name)
        };
        let changed = match is_kept {
            true => world.inside(Inside::Call, || db.remove_snapshot(name)).map(|()| None),
            false => world.inside(Inside::Flush, || db.create_snapshot(name)).map(Some),
        };
        world.note(&format!("make or remove snapshot {name}: {}", outcome(&changed)));
        match changed {
            Ok(lsn) => {
                {
                    let state = &mut *world.state();
                    state.truth.is_changed(name, lsn);
                    state.report.snapshots += 1;
                }
                look_at_names(world, db);
            }
            Err(error) => {
                let state = &mut *world.state();
                if error.fate() == Fate::NotWritten {
                    state.truth.names.changing = None;
                }
                state.expects(&error);
            }
        }
    }
}

/// Compares the snapshots that are there, unless the disk is ill.
pub(crate) fn look_at_names(world: &World, db: &Db) {
    let (scale, truth) = {
        let state = world.state();
        (state.scale, state.truth.clone())
    };
    if truth.names.is_idle() {
        return;
    }
    let listed = db.list_snapshots();
    if let Ok(damaged) = &listed
        && damaged.iter().any(|named| named.damage.is_some())
    {
        // The one way to hear of a disk that failed meanwhile.
        assert!(world.state().ill, "{damaged:?}");
        return;
    }
    let found = listed.and_then(|listed| read_names(db, listed, scale));
    world.state().report.snapshot_looks += 1;
    world.note(&format!("snapshots: {}", outcome(&found.as_ref().map(BTreeMap::len))));
    let mut state = world.state();
    match found {
        Ok(found) => state.truth.found_names(found),
        Err(error) => state.expects(&error),
    }
}

/// Every snapshot of a disk on which nothing fails.
pub(crate) fn all_names(db: &Db, scale: Scale) -> Result<Seen> {
    read_names(db, db.list_snapshots()?, scale)
}

fn read_names(db: &Db, listed: Vec<NamedSnapshot>, scale: Scale) -> Result<Seen> {
    let mut found = Seen::new();
    for named in listed {
        let snapshot = db.at_snapshot(&named.name)?;
        assert_eq!(named.lsn, snapshot.lsn().to_string(), "{}", named.name);
        assert_eq!(named.damage, None, "{}", named.name);
        let mut tables = Tables::new();
        for name in snapshot.collections()? {
            let table = read_table(&name, &snapshot.collection(&name)?, scale)?;
            tables.insert(name, table);
        }
        let rows: BTreeMap<_, _> =
            tables.iter().map(|(name, table)| (name.clone(), table.rows.len() as u64)).collect();
        assert!(named.rows.iter().all(|(name, count)| *count >= rows[name]), "{}: {rows:?}", named.name);
        found.insert(named.name, (snapshot.lsn(), tables));
    }
    Ok(found)
}

impl Truth {
    /// The change under way is done: a snapshot was made at this LSN, or removed.
    fn is_changed(&mut self, name: &str, lsn: Option<Lsn>) {
        self.names.changing = None;
        let Some(lsn) = lsn else {
            self.names.kept.remove(name);
            return;
        };
        self.promise(lsn);
        self.names.kept.insert(name.to_owned(), Arc::new(self.made_at(lsn)));
    }

    /// What a snapshot of this LSN shows.
    fn made_at(&self, lsn: Lsn) -> Kept {
        let at = |name: &String| (name.clone(), self.now_at(name, lsn));
        Kept { lsn, allowed: self.promised.keys().map(at).collect() }
    }

    /// The snapshots that are there: those that were kept, and of the change under way all or nothing. From then on it is
    /// known which.
    pub(crate) fn found_names(&mut self, found: Seen) {
        let changing = self.names.changing.take();
        for name in self.names.kept.keys().filter(|name| changing.as_ref() != Some(*name)) {
            assert!(found.contains_key(name), "snapshot {name} is gone");
        }
        let mut kept = BTreeMap::new();
        for (name, (lsn, tables)) in found {
            let expected = self.names.kept.get(&name).cloned().unwrap_or_else(|| {
                assert_eq!(changing.as_ref(), Some(&name), "a snapshot that nobody made");
                Arc::new(self.made_at(lsn))
            });
            assert_eq!(expected.lsn, lsn, "snapshot {name}");
            assert!(expected.allowed.keys().eq(tables.keys()), "snapshot {name} has {:?}", tables.keys());
            for (collection, table) in &tables {
                let wrong = differs(&expected.allowed[collection], table);
                assert!(
                    wrong.is_none(),
                    "snapshot {name} of {collection} at {lsn}:\n{}",
                    wrong.unwrap_or_default()
                );
            }
            let allowed = tables.into_iter().map(|(name, table)| (name, vec![table])).collect();
            kept.insert(name, Arc::new(Kept { lsn, allowed }));
        }
        self.names.kept = kept;
    }
}
