//! The crashes tried at each moment of a life, beside it.

use std::time::Duration;

use akidb::{Durability, ErrorKind, Lsn};
use akidb_host::Rng;

use super::life::Life;
use super::machine::Machine;
use super::names::all_names;
use super::truth::{Truth, read};
use super::world::Moment;
use super::writes::send_again;

impl Life {
    pub(crate) fn crash_everywhere(&self) {
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
        if let Some(store) = moment.store.as_ref().filter(|_| rng.below(4) == 0) {
            self.crash_with_store(moment, store, disk.kill(), rng);
        }
        let machine = Machine::plain(disk, rng);
        let mut truth = moment.truth.clone();
        if killed && moment.well && self.settings.engine.durability == Durability::Memory {
            truth.promise(Lsn::MAX);
        }
        if rng.below(8) == 0 {
            self.look_only(&machine, truth.clone());
        }
        let has_names = !truth.names.is_idle() && rng.below(3) == 0;
        let mut open = || {
            let db = machine.open(&self.settings, rng.u64());
            db.unwrap_or_else(|e| panic!("a crash looks like damage: {e}"))
        };
        let db = open();
        let counts = truth.found(read(&db, scale).expect("what was opened can be read"));
        if has_names {
            truth.found_names(all_names(&db, scale).expect("what was opened can be read"));
        }
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
        if has_names {
            truth.found_names(all_names(&db, scale).expect("what was opened again can be read"));
        }
        send_again(&db, &truth.keyed).expect("what was acknowledged is answered from the manifest");
        counts
    }
}
