//! From an id to the slot of its newest version, found by the id's mark.
//!
//! Marks are random numbers already and are not hashed again; ids stay in their rows. So most looks, which are for ids
//! that are not here, touch one line of a small table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::{Id, Marked};

/// Grows only.
#[derive(Debug, Default)]
pub(super) struct Newest {
    by_mark: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    /// Of ids whose mark stands above for another id: hardly ever one.
    clashing: HashMap<Id, u32>,
}

impl Newest {
    /// The slot of this id; `id_of` says whose a slot is.
    pub(super) fn get<'a>(&self, wanted: Marked<'_>, id_of: impl FnOnce(u32) -> &'a Id) -> Option<u32> {
        let slot = *self.by_mark.get(&wanted.mark)?;
        if id_of(slot) == wanted.id { Some(slot) } else { self.clashing.get(wanted.id).copied() }
    }

    /// Puts `slot` where this id stands, and answers the slot that stood there.
    pub(super) fn insert<'a>(
        &mut self,
        id: Marked<'_>,
        slot: u32,
        id_of: impl FnOnce(u32) -> &'a Id,
    ) -> Option<u32> {
        match self.by_mark.get_mut(&id.mark) {
            None => self.by_mark.insert(id.mark, slot),
            Some(at) if id_of(*at) == id.id => Some(std::mem::replace(at, slot)),
            Some(_) => self.clashing.insert(id.id.clone(), slot),
        }
    }
}

/// The hash of a mark is the mark.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a mark is one u64");
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use akidb_host::Rng;

    use super::*;

    #[test]
    fn a_table_answers_as_a_map_does_whatever_the_marks() {
        let seed = 11;
        println!("seed {seed}");
        let mut rng = Rng::seeded(seed);
        // A quarter of the ids share one mark.
        let mark_of = |id: &Id| match id {
            Id::Int(n) if n % 4 == 1 => 7,
            other => other.mark(),
        };
        let (mut table, mut map) = (Newest::default(), HashMap::new());
        let mut ids: Vec<Id> = Vec::new();
        for slot in 0..5_000u32 {
            let id = Id::Int(i64::try_from(rng.below(3_000)).unwrap());
            let marked = Marked { id: &id, mark: mark_of(&id) };
            let expected = map.get(&id).copied();
            assert_eq!(table.get(marked, |slot| &ids[slot as usize]), expected, "{id} at slot {slot}");
            assert_eq!(
                table.insert(marked, slot, |slot| &ids[slot as usize]),
                expected,
                "{id} at slot {slot}"
            );
            map.insert(id.clone(), slot);
            ids.push(id);
        }
        assert!(!table.clashing.is_empty());
        for n in 0..3_000 {
            let id = Id::Int(n);
            let found = table.get(Marked { id: &id, mark: mark_of(&id) }, |slot| &ids[slot as usize]);
            assert_eq!(found, map.get(&id).copied(), "{id}");
        }
    }
}
