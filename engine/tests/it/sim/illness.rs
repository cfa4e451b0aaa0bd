//! A disk that fails, and one that is well again.

use std::time::Duration;

use akidb::{Db, Stats};
use akidb_host::sim::{EIO, ENOSPC};

use super::life::Life;
use super::world::{Fault, Inside};
use super::writes::write;

impl Life {
    pub(crate) fn arm(&self) {
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
    pub(crate) fn heal(&self, db: &Db) {
        self.machine.disk.set_free_bytes(None);
        self.world.state().fault = None;
        if !self.world.state().ill {
            return;
        }
        self.world.inside(Inside::Call, || self.machine.rest(Duration::from_secs(60)));
        if db.stats().is_ok_and(|stats| wants_reopen(&stats)) {
            self.world.state().must_reopen = true;
        }
        // What goes wrong from here on is a mistake, unless it is said that a reopen is needed.
        if !self.world.state().must_reopen {
            self.world.state().ill = false;
            write(&self.world, db);
        }
    }
}

/// Whether the engine says that only a reopen helps: all of it, or a collection with a write that could not be applied, which
/// perhaps nobody waited for.
fn wants_reopen(stats: &Stats) -> bool {
    stats.poisoned.is_some() || stats.collections.iter().any(|collection| collection.damage.is_some())
}
